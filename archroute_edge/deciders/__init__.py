"""Ways to decide, behind one interface: a route table and turns in, a verdict out."""

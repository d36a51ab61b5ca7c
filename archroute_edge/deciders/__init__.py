"""Ways to decide: a route table and turns in, a verdict out."""

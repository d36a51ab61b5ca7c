"""Training of the models that the policies ``causal`` and ``classifier`` read."""

"""Training of the bundled encoder; and all-MiniLM-L6-v2, which it and `training.tiny` use."""

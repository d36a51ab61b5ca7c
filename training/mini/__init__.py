"""Training of the bundled encoder, and the published sentence encoder that it and `training.tiny` start from."""

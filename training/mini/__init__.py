"""The bundled encoder's training, and the published sentence encoder that it and `training.tiny` start from."""

"""The bundled encoder's training, and the published sentence encoder that it and `tools.tiny` start from."""

"""The sentence encoder that bundled models learn from."""

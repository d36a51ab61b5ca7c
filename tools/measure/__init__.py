"""Developer commands that measure and prove what tests cannot: the real vocabulary, the real model's shape."""

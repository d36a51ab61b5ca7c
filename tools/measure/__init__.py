"""Developer's commands that measure and prove what the tests cannot: the real vocabulary, the real model's shape."""

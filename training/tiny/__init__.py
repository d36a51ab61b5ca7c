"""Build and train the bundled model: a small Qwen2-architecture router (needs PyTorch)."""

"""Developer tools: convert checkpoints, measure, install, check documents and releases."""

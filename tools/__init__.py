"""Developer tools: converting checkpoints, measuring, installing, checking documents and releases."""

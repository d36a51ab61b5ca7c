"""Developer's tools: converting checkpoints, measuring, installing, checking documents and releases. The package imports none."""

"""Developer's tools: converting checkpoints, training the bundled models. Nothing in archroute_edge imports them."""

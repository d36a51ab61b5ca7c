"""How the bundled models, mini and tiny, and the shipped labelled cases are made. The package imports nothing from it."""

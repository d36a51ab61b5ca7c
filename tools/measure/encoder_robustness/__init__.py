"""How many of an encoder's decisions change if the same is said otherwise: ``python -m tools.measure.encoder_robustness``."""

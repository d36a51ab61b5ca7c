"""Benchmarks and evaluation: how fast a model decides on this machine, and how well it decides on labelled cases."""

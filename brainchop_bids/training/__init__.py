"""Generators, losses, metrics and the training loop."""

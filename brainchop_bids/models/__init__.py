"""Architectures, weights and labels: what a model is."""

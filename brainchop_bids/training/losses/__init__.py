"""Losses on any Keras backend."""

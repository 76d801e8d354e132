"""Synthetic images and random changes of real ones."""

"""Engines: run this model on this volume."""

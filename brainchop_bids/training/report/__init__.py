"""Logs, charts and the report of a training run."""

"""Command lines: one module for each command."""

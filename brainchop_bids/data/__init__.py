"""Packaged data: model registry, label tables, report template."""

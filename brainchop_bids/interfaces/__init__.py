"""Nipype interfaces: thin, no numerics of their own."""

"""Figures and HTML pages, made from the written derivatives alone."""

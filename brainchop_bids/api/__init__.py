"""Segmentation in Python, without files; see `brainchop_bids` for the names to import."""

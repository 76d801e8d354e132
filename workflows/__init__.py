"""Nipype workflow factories, installed as ``brainchop_bids.workflows``."""

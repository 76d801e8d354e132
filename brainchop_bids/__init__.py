"""BIDS App that segments brain MRI with tiny networks."""

__version__ = '0.1.0'

"""The report of one participant."""

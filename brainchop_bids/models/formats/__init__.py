"""One module for each weight format."""

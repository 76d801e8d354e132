"""Figures and HTML."""

# How strongly labels cover the scan until a viewer chooses.
LABEL_ALPHA = 0.4
# A label that the table does not know must be seen, not hidden.
UNKNOWN_COLOR = (255, 0, 255)

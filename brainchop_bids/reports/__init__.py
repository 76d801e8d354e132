"""Reports: HTML pages of participants and groups, and their figures."""

# Opacity of labels over the scan until the reader changes it.
LABEL_ALPHA = 0.4
# Labels that are not in the table must be visible.
UNKNOWN_COLOR = (255, 0, 255)

"""Agreement of segmentations with references."""

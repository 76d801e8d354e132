"""Image quality and plausibility of labels: pure functions on arrays."""

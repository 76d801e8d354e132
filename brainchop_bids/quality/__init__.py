"""How good a scan is, and whether its labels are plausible: pure functions on arrays."""

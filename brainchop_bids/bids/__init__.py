"""What to process (pybids) and what to write (names, sidecars, descriptions)."""

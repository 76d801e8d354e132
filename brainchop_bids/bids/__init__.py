"""BIDS datasets: scans to process (pybids), and derivatives to write."""

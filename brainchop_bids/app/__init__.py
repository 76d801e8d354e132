"""One run of the BIDS App: selection of scans, execution, progress and summary."""

"""One run of the BIDS App: what to do and why, its execution, its progress and its summary."""

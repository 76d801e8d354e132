"""The report of all participants."""

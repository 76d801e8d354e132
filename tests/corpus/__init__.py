"""Bad inputs, made by code: each function writes one of a kind."""

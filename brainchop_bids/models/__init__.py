"""Architectures, weights and labels: what a model is."""

# The packaged model that is run where nobody chooses. Here, so that help texts load nothing else.
DEFAULT_MODEL = 'tissue'

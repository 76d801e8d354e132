"""Models: architectures, weights, labels and file formats."""

# The packaged model that is used by default. Defined here, so that help texts load nothing else.
DEFAULT_MODEL = 'tissue'

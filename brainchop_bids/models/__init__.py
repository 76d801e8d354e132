"""Models: architectures, weights, labels and file formats."""

# The packaged models that are used by default. Defined here, so that help texts load nothing else.
DEFAULT_MODEL = 'tissue'
# That of brainchop-localise.
DEFAULT_LOCALISER = 'locate-brain'

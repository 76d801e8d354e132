"""Pure functions on arrays and affines; no Nipype, no pybids, no TensorFlow."""

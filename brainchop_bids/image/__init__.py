"""Pure functions on arrays and affines, without Nipype, pybids or TensorFlow."""

"""How much memory a run will take, from the model's facts alone: no Keras here."""

import math
from collections.abc import Sequence

from ..models.spec import ModelSpec

# Python, NumPy, TensorFlow and Keras once loaded: measured 0.68 to 0.75 GB (TensorFlow 2.21).
_LOADED_GB = 0.75


def estimate_peak_gb(spec: ModelSpec, shape: Sequence[int]) -> float:
    """Estimate the peak resident memory of segmenting one volume on a CPU.

    Parameters
    ----------
    spec : ModelSpec
        The model.
    shape : sequence of int
        The conformed volume's shape, in voxels.

    Returns
    -------
    float
        GB (10^9 bytes).
    """
    voxels = math.prod(shape)
    held = voxels * 4 * (spec.channels + 2)
    return _LOADED_GB + 0.3 + held / 1e9

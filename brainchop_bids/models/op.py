"""Single operations of networks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# Elementwise functions, except for softmax, which is over the channels.
ACTIVATIONS = (
    'linear', 'relu', 'relu6', 'leaky_relu', 'elu', 'selu', 'silu', 'sigmoid', 'softplus', 'tanh',
    'gelu', 'gelu_tanh', 'mish', 'softsign', 'exponential', 'softmax',
)  # fmt: skip
# Default slope for negative values, as in Keras.
LEAKY_SLOPE = 0.2
NORMS = ('batch_norm', 'group_norm', 'layer_norm', 'slab_norm')
# Kinds that keep the grid and may overwrite their input.
POINTWISE = ('activation', 'prelu', *NORMS)
# Kinds that take several volumes; those of one channel fit to any, and single voxels to any grid.
MERGES = ('add', 'subtract', 'multiply', 'average', 'maximum', 'minimum')


@dataclass(frozen=True, eq=False)
class Op:
    """One operation on channels-last volumes.

    Parameters
    ----------
    name : str
        Unique name.
    kind : str
        ``input``; ``conv`` and ``conv_transpose`` (settings ``strides``, ``dilation``,
        ``padding`` 'same' or 'valid' as Keras has them, ``groups``); ``batch_norm``
        (``epsilon``); ``group_norm`` (``epsilon``, ``groups``, -1 for each channel alone);
        ``layer_norm`` (``epsilon``) over the channels of each voxel; ``slab_norm``
        (``epsilon``, ``groups``, ``order``), see `slab_norm`; ``activation`` (``function``, one
        of `ACTIVATIONS`, and ``alpha``); ``prelu``; ``max_pool`` and ``avg_pool`` (``size``,
        ``strides``, ``padding``); ``global_pool`` (``function`` 'average' or 'max') to one
        voxel; ``upsample`` (nearest; ``size``); ``zero_pad`` and ``crop`` (``padding``, two for
        each axis); one of `MERGES`; ``concatenate``.
    inputs : tuple of str
        Names of the operations whose outputs it takes.
    channels : int
        Channels of the output.
    settings : mapping
        Settings of the kind.
    weights : mapping of str to float32 array
        Arrays by Keras' names: ``kernel`` (D, H, W, Cin, Cout), if transposed (D, H, W, Cout,
        Cin), ``bias``, ``gamma``, ``beta``, ``moving_mean``, ``moving_variance``, ``alpha``; all
        but kernels have one value for each channel. Other normalisations than ``batch_norm`` may
        have ``gamma`` and ``beta``, too.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    channels: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def is_plain(self) -> bool:
        """Whether it is a convolution without stride and groups that keeps the grid."""
        return (
            self.kind == 'conv'
            and self.settings['strides'] == (1, 1, 1)
            and self.settings['groups'] == 1
            and (self.settings['padding'] == 'same' or self.kernel_size == (1, 1, 1))
        )

    @property
    def by_cubes(self) -> bool:
        """Whether it is a convolution with a cubic kernel that is as wide as its stride."""
        # Nothing is padded then.
        if self.kind not in ('conv', 'conv_transpose'):
            return False
        simple = self.settings['groups'] == 1 and set(self.settings['dilation']) == {1}
        return simple and len({*self.kernel_size, *self.settings['strides']}) == 1

    @property
    def kernel_size(self) -> tuple[int, ...]:
        """Kernel size of a convolution, voxels."""
        return self.weights['kernel'].shape[:-2]

    @property
    def span(self) -> int:
        """Distance between the first and the last voxel of a kernel along the longest axis."""
        dilation = self.settings['dilation']
        return max((n - 1) * d for n, d in zip(self.kernel_size, dilation, strict=True))

    @property
    def is_per_channel(self) -> bool:
        """Whether it normalises each channel alone, by the moments of the whole volume."""
        return self.kind == 'group_norm' and self.settings['groups'] in (-1, self.channels)

    def is_activation(self, *functions: str) -> bool:
        """Return whether it is an activation, of one of these functions if any are given."""
        if self.kind != 'activation':
            return False
        return not functions or self.settings['function'] in functions

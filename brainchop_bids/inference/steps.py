"""Steps (layers) of networks that are computed slab by slab."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..models.network import Network, Op, fold_batchnorm, without

Activation = tuple[str, float]


@dataclass(frozen=True, eq=False)
class Head:
    """The last layer, which computes logits from the features of each coarse voxel.

    Parameters
    ----------
    kernel : (U, U, U, C, classes) float32 array
        Weights from C features of a coarse voxel to the U^3 voxels in it; U is 1 for a 1x1x1
        convolution.
    bias : (classes,) float32 array
        Bias of each class.
    """

    kernel: np.ndarray
    bias: np.ndarray

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.bias.size)

    @property
    def up(self) -> int:
        """Number of voxels of a coarse voxel along each axis, U."""
        return int(self.kernel.shape[0])

    @property
    def matrix(self) -> np.ndarray:
        """Kernel as a matrix, (U^3 classes, C); the classes of a voxel are consecutive rows."""
        rows = self.kernel.swapaxes(3, 4)
        return np.ascontiguousarray(rows.reshape(-1, rows.shape[-1]), np.float32)

    @property
    def biases(self) -> np.ndarray:
        """Bias of each row of the matrix, (U^3 classes,)."""
        return np.tile(self.bias, self.up**3).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Step:
    """A convolution, optionally a normalisation of each channel, and activations.

    Parameters
    ----------
    kernel : (D, H, W, Cin, Cout) float32 array
        Weights of the convolution.
    bias : (Cout,) float32 array
        Bias; zeros if it has none.
    dilation : tuple of int
        Dilation along each axis.
    epsilon : float or None
        Epsilon of the normalisation; None without one.
    activations : tuple of (str, float)
        Names of element-wise functions and their alpha, see `Op`.
    gamma, beta : (Cout,) float32 array or None
        Factor and term of the normalisation.
    stride : int
        Stride of a convolution that makes the grid coarser; it then has no dilation.
    ahead : int
        Number of zeros before the first voxel, with a stride.
    up : int
        Stride of a transposed convolution whose kernel is as wide as its stride.
    """

    kernel: np.ndarray
    bias: np.ndarray
    dilation: tuple[int, int, int]
    epsilon: float | None = None
    activations: tuple[Activation, ...] = ()
    gamma: np.ndarray | None = None
    beta: np.ndarray | None = None
    stride: int = 1
    ahead: int = 0
    up: int = 1

    @property
    def keeps_grid(self) -> bool:
        """True if input and output have the same grid."""
        return self.stride == self.up == 1

    def made(self, shape: Sequence[int]) -> tuple[int, int, int]:
        """Return the shape of the output for the shape of an input."""
        x, y, z = (n // self.stride * self.up for n in shape)
        return x, y, z

    @property
    def margins(self) -> tuple[tuple[int, int], ...]:
        """Number of voxels before and after a voxel that its value depends on, for each axis.

        As with ``padding='same'``, an even kernel has one more voxel after than before.
        """
        if self.up > 1:
            return ((0, 0),) * 3
        spans = [(n - 1) * d for n, d in zip(self.kernel.shape[:3], self.dilation, strict=True)]
        if self.stride > 1:
            return tuple((self.ahead, span - self.ahead) for span in spans)
        return tuple((span // 2, span - span // 2) for span in spans)


def turned(network: Network) -> Network:
    """Return a network for volumes whose axes are in reversed order.

    In NIfTI x is the fastest axis in memory. With reversed axes no array needs to be transposed,
    and a slab of probabilities is contiguous in its file for each class.
    """
    ops = []
    for op in network.ops:
        settings = {
            key: value[::-1] if isinstance(value, tuple) else value
            for key, value in op.settings.items()
        }
        weights = {
            key: np.ascontiguousarray(values.transpose(2, 1, 0, 3, 4))
            if key == 'kernel'
            else values
            for key, values in op.weights.items()
        }
        ops.append(replace(op, settings=settings, weights=weights))
    shape = network.input_shape[::-1]
    # The planes of a network of images are no longer those of the first axis.
    return replace(network, ops=tuple(ops), input_shape=shape, of_images=False)


def split_head(network: Network) -> tuple[Network, Head]:
    """Split a network before its last layer, if that computes each coarse voxel separately.

    Such a layer is a 1x1x1 convolution, or a transposed convolution whose kernel is as wide as
    its stride. Features then stay on their coarser grid, and logits are computed slab by slab.

    Parameters
    ----------
    network : Network
        The network; its batch normalisation is folded.

    Returns
    -------
    body : Network
        The network from its input to the features, without a final softmax or sigmoid.
    head : Head
        The last layer, or the identity if the network ends otherwise. A single logit x becomes
        two, 0 and x, whose softmax is the sigmoid of x.
    """
    network = fold_batchnorm(network)
    single = network.classes == 1
    while network.ops[-1].is_activation('sigmoid' if single else 'softmax', 'linear'):
        # The only input of the last operation is the one before it.
        network = replace(network, ops=network.ops[:-1])
    last = network.ops[-1]
    if (last.is_plain and last.kernel_size == (1, 1, 1)) or (
        last.by_cubes and last.kind == 'conv_transpose'
    ):
        kernel, bias = _weights(last)
        source = network[last.inputs[0]]
        ops = network.ops[: network.ops.index(source) + 1]
        network = replace(network, ops=ops)
        if last.kind == 'conv_transpose':
            kernel = kernel.swapaxes(3, 4)
    else:
        return network, identity_head(network.classes)
    return network, _with_background(kernel, bias) if single else Head(kernel, bias)


def identity_head(classes: int) -> Head:
    """Return a head whose features are logits already; see `split_head` for a single logit."""
    kernel = np.eye(classes, dtype=np.float32)[None, None, None]
    bias = np.zeros(classes, np.float32)
    return _with_background(kernel, bias) if classes == 1 else Head(kernel, bias)


def _with_background(kernel: np.ndarray, bias: np.ndarray) -> Head:
    return Head(np.pad(kernel, [(0, 0)] * 4 + [(1, 0)]), np.pad(bias, (1, 0)))


def split_gather(network: Network) -> tuple[Network, int]:
    """Remove a first layer that only moves voxels into channels (space to depth).

    Parameters
    ----------
    network : Network
        Body of a network, as `split_head` returns it.

    Returns
    -------
    body : Network
        The network without this layer. The channels of its input are the voxels of a coarse
        voxel, the last axis fastest, and for each of them the channels of the original input.
    factor : int
        Number of voxels of a coarse voxel along each axis; 1 if there is no such layer.
    """
    first = network.ops[1] if len(network.ops) > 1 else network.ops[0]
    if (
        first.kind != 'conv'
        or not first.by_cubes
        or len(network.consumers(network.ops[0].name)) > 1
    ):
        return network, 1
    kernel, bias = _weights(first)
    square = kernel.reshape(-1, first.channels)
    if bias.any() or not np.array_equal(square, np.eye(first.channels)):
        return network, 1
    network = without(network, lambda op: op is first)
    given = replace(network.ops[0], channels=first.channels)
    return replace(network, ops=(given, *network.ops[1:])), first.kernel_size[0]


def streamable_steps(body: Network) -> tuple[Step, ...] | None:
    """Return the steps of a chain of convolutions, None for any other network.

    Parameters
    ----------
    body : Network
        Body of a network, as `split_head` returns it.

    Returns
    -------
    tuple of Step or None
        None if there is an operation that `Network.streams` does not allow.
    """
    if not body.streams:
        return None
    steps: list[dict[str, Any]] = []
    ahead = 0
    for op in without(body, lambda op: op.is_activation('linear')).ops[1:]:
        if op.kind == 'zero_pad':
            ahead = op.settings['padding'][0][0]
        elif op.kind in ('conv', 'conv_transpose'):
            kernel, bias = _weights(op)
            step = {'kernel': kernel, 'bias': bias, 'dilation': op.settings['dilation']}
            (stride,) = set(op.settings['strides'])
            if op.kind == 'conv_transpose':
                step.update(kernel=kernel.transpose(0, 1, 2, 4, 3), up=stride)
            elif stride > 1:
                step.update(stride=stride, ahead=ahead)
            steps.append(step)
        elif op.kind == 'group_norm' and _may_normalise(op, steps):
            steps[-1].update(epsilon=op.settings['epsilon'], **op.weights)
        elif steps and op.is_activation() and not op.is_activation('softmax'):
            given: Activation = (op.settings['function'], op.settings['alpha'])
            steps[-1]['activations'] = (*steps[-1].get('activations', ()), given)
        else:
            return None
    return tuple(Step(**step) for step in steps)


def _weights(op: Op) -> tuple[np.ndarray, np.ndarray]:
    return op.weights['kernel'], op.weights.get('bias', np.zeros(op.channels, np.float32))


def _may_normalise(op: Op, steps: list[dict[str, Any]]) -> bool:
    """Return True for a normalisation of single channels that directly follows a convolution."""
    return op.is_per_channel and bool(steps) and not set(steps[-1]) & {'epsilon', 'activations'}

"""Decomposition of U-Nets at their finest level, to compute them slab by slab."""

from dataclasses import dataclass, replace

from .network import Network, Op


@dataclass(frozen=True, eq=False)
class Level:
    """A network that is a chain except for an addition of upsampled coarser features.

    Parameters
    ----------
    before : Network
        A chain from the input to the features at the finest level.
    below : Network
        Network from these features to those on a coarser grid that are added.
    up : int
        Factor of upsampling by nearest neighbours along each axis.
    after : Network
        A chain from the sum to the output.
    """

    before: Network
    below: Network
    up: int
    after: Network


def finest_level(network: Network) -> Level | None:
    """Decompose a network at its finest level.

    Parameters
    ----------
    network : Network
        The network, perhaps without its first and last layer.

    Returns
    -------
    Level or None
        None if the network has another structure; chains must satisfy `Network.streams`.
    """
    ops = network.ops
    end = len(ops) - 1
    while len(ops[end].inputs) == 1 and _leads_only_to(network, ops[end - 1], ops[end]):
        end -= 1
    sums = ops[end]
    if sums.kind != 'add' or len(sums.inputs) != 2:
        return None
    fine, coarse = sorted((network[name] for name in sums.inputs), key=_is_upsampling)
    sizes = set(coarse.settings['size']) if _is_upsampling(coarse) else set()
    start = ops.index(fine)
    below = [op for op in ops[start + 1 : end] if op is not coarse]
    sources = {fine.name, *(op.name for op in below)}
    if (
        len(sizes) != 1
        or fine.channels != coarse.channels
        or network.consumers(coarse.name) != [sums]
        or not below
        or below[-1].name != coarse.inputs[0]
        or not all(sources.issuperset(op.inputs) for op in below)
    ):
        return None
    before = replace(network, ops=ops[: start + 1])
    after = _from(network, sums, ops[end + 1 :])
    if not before.streams or not after.streams:
        return None
    return Level(before, _from(network, fine, below), sizes.pop(), after)


def slab_values(network: Network) -> float:
    """Return the number of values in memory for each voxel of the input, computed by slabs.

    Parameters
    ----------
    network : Network
        The whole network.

    Returns
    -------
    float
        For a chain the size of its largest layer, for a network with a `Level` that of its finest
        layers; 0 if the network cannot be computed by slabs.
    """
    if network.streams:
        kinds = [op.kind for op in network.ops if 'kernel' in op.weights]
        # The coarse input of a transposed convolution is kept while its output is computed, except
        # for the last layer.
        return network.values * (1.25 if 'conv_transpose' in kinds[:-1] else 1.0)
    return network.held if finest_level(network) is not None else 0.0


def _leads_only_to(network: Network, op: Op, other: Op) -> bool:
    return other.inputs == (op.name,) and network.consumers(op.name) == [other]


def _is_upsampling(op: Op) -> bool:
    return op.kind == 'upsample'


def _from(network: Network, op: Op, ops: 'list[Op] | tuple[Op, ...]') -> Network:
    """Return the network of some operations, with the output of one as its input."""
    return replace(network, ops=(Op(op.name, 'input', (), op.channels), *ops))

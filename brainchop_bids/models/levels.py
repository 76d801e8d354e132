"""Networks that are chains but for coarser grids in between, as a U-Net is."""

from dataclasses import dataclass, replace

from .network import Network, Op


@dataclass(frozen=True, eq=False)
class Level:
    """The finest level of a network that adds to it what the coarser ones make of it.

    Parameters
    ----------
    before : Network
        A chain, from the input to what is added to.
    below : Network
        From there to what is added, on a coarser grid.
    up : int
        How many nearest neighbours along each axis take one value of this.
    after : Network
        A chain, from the sum to the output.
    """

    before: Network
    below: Network
    up: int
    after: Network


def finest_level(network: Network) -> Level | None:
    """Take a network apart at its finest level.

    Parameters
    ----------
    network : Network
        The network, perhaps without its first and last layer.

    Returns
    -------
    Level or None
        None where it is built otherwise; chains are what `Network.streams` allows.
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
    known = {fine.name, *(op.name for op in below)}
    if (
        len(sizes) != 1
        or network.takers(coarse.name) != [sums]
        or not below
        or below[-1].name != coarse.inputs[0]
        or not all(known.issuperset(op.inputs) for op in below)
    ):
        return None
    before = replace(network, ops=ops[: start + 1])
    after = _from(network, sums, ops[end + 1 :])
    if not before.streams or not after.streams:
        return None
    return Level(before, _from(network, fine, below), sizes.pop(), after)


def slab_values(network: Network) -> float:
    """Return the values that are held at once for each voxel of the input by going by slabs.

    Parameters
    ----------
    network : Network
        The whole network.

    Returns
    -------
    float
        Of a chain those of its largest layer, of a network with a `Level` those of its finest
        layers; 0 where all of it has to be computed as one graph.
    """
    if network.streams:
        kinds = [op.kind for op in network.ops if 'kernel' in op.weights]
        # A coarser grid is held while a finer one is made of it, unless that is the last layer's.
        return network.values * (1.25 if 'conv_transpose' in kinds[:-1] else 1.0)
    return network.held if finest_level(network) is not None else 0.0


def _leads_only_to(network: Network, op: Op, other: Op) -> bool:
    return other.inputs == (op.name,) and network.takers(op.name) == [other]


def _is_upsampling(op: Op) -> bool:
    return op.kind == 'upsample'


def _from(network: Network, op: Op, ops: 'list[Op] | tuple[Op, ...]') -> Network:
    """Return a network of operations that one feeds."""
    return replace(network, ops=(Op(op.name, 'input', (), op.channels), *ops))

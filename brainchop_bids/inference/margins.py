"""Margins that each layer of a chain needs if only a part of the result is computed."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .steps import Step
from .tiles import Box


@dataclass(frozen=True)
class Pass:
    """A step and the part of the volume that it computes.

    Parameters
    ----------
    step : Step
        The layer.
    source, result : tuple of 3 slice
        Boxes of its input and its output, in voxels of the whole volume.
    """

    step: Step
    source: Box
    result: Box

    @property
    def _missing(self) -> list[tuple[int, int]]:
        """Number of input voxels before and after that are outside the volume, for each axis."""
        missing = []
        for axis, (given, made) in enumerate(zip(self.source, self.result, strict=True)):
            first, last = _reached(self.step, axis, made)
            missing.append((max(0, given.start - first), max(0, last - given.stop)))
        return missing

    @property
    def zeros(self) -> tuple[int, int]:
        """Number of planes of zeros before and after the input."""
        return self._missing[0]

    @property
    def padding(self) -> tuple[tuple[int, int], ...]:
        """Zeros before and after the input, along y and z."""
        return tuple(self._missing[1:])

    @property
    def width(self) -> int:
        """Number of channels of input or output, whichever has more."""
        return max(self.step.kernel.shape[3:])

    @property
    def count(self) -> int:
        """Number of planes of the output."""
        return lengths(self.result)[0]

    @property
    def padded(self) -> int:
        """Number of planes of the input, including those of zeros."""
        return lengths(self.source)[0] + sum(self.zeros)

    @property
    def given(self) -> int:
        """Number of values of an input plane."""
        return math.prod(lengths(self.source)[1:]) * self.step.kernel.shape[3]

    @property
    def made(self) -> int:
        """Number of values of an output plane."""
        return math.prod(lengths(self.result)[1:]) * self.step.kernel.shape[4]


def passes_of(steps: Sequence[Step], shape: Sequence[int], keep: Box) -> list[Pass]:
    """Determine the part that each step must compute, from the last step to the first."""
    shapes = [(shape[0], shape[1], shape[2])]
    for step in steps:
        shapes.append(step.made(shapes[-1]))
    # Moments are computed over whole volumes.
    everything = any(step.epsilon is not None for step in steps)
    axes = []
    for axis, side in enumerate(keep):
        sizes = [size[axis] for size in shapes]
        axes.append(
            [slice(0, n) for n in sizes] if everything else _sides(steps, axis, sizes, side)
        )
    boxes = [(x, y, z) for x, y, z in zip(*axes, strict=True)]
    return [Pass(*each) for each in zip(steps, boxes, boxes[1:], strict=False)]


def _sides(steps: Sequence[Step], axis: int, sizes: Sequence[int], keep: slice) -> list[slice]:
    """Return the part of the input, and of the output of each step, along an axis.

    The part that is kept is enlarged until all transposed convolutions make whole coarse voxels.
    """

    def parts(side: slice) -> list[slice]:
        found = [side]
        for step, size in zip(reversed(steps), sizes[-2::-1], strict=True):
            first, last = _reached(step, axis, found[-1])
            found.append(slice(max(0, first), min(size, last)))
        return found[::-1]

    def aligned(edges: Iterable[int]) -> bool:
        return not any(edge % step.up for step, edge in zip(steps, edges, strict=True))

    start, stop = keep.start, keep.stop
    # The ends of the volume are always aligned.
    while not aligned(part.start for part in parts(slice(start, stop))[1:]):
        start -= 1
    while not aligned(part.stop for part in parts(slice(start, stop))[1:]):
        stop += 1
    return parts(slice(start, stop))


def _reached(step: Step, axis: int, made: slice) -> tuple[int, int]:
    """Return where the input of a part of the output begins and ends, perhaps outside of it."""
    before, after = step.margins[axis]
    first, last = (n * step.stride // step.up for n in (made.start, made.stop - 1))
    return first - before, last + 1 + after


def lengths(box: Box) -> tuple[int, int, int]:
    """Return the sides of a box."""
    x, y, z = (side.stop - side.start for side in box)
    return x, y, z

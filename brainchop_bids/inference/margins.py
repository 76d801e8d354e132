"""Margins that each layer of a chain needs if only a part of the result is computed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .steps import Step
from .tiles import Box, full


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
        if not self.step.keeps_grid:
            # Input and output are whole volumes.
            return [
                (before, max(0, (made.stop - 1) * self.step.stride + 1 + after - given.stop))
                if self.step.stride > 1
                else (0, 0)
                for (before, after), given, made in zip(
                    self.step.margins, self.source, self.result, strict=True
                )
            ]
        return [
            (before - (made.start - given.start), after - (given.stop - made.stop))
            for (before, after), given, made in zip(
                self.step.margins, self.source, self.result, strict=True
            )
        ]

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
    passes = []
    shapes = [(shape[0], shape[1], shape[2])]
    for step in steps:
        shapes.append(step.made(shapes[-1]))
    # Moments are computed over whole volumes, and so are networks with coarser grids.
    everything = any(step.epsilon is not None or not step.keeps_grid for step in steps)
    last = shapes.pop()
    result = full(last) if everything else keep
    for step, given in zip(reversed(steps), reversed(shapes), strict=True):
        x, y, z = (
            slice(max(0, side.start - before), min(length, side.stop + after))
            for (before, after), side, length in zip(step.margins, result, given, strict=True)
        )
        source = (x, y, z) if step.keeps_grid else full(given)
        passes.append(Pass(step, source, result))
        result = source
    return passes[::-1]


def lengths(box: Box) -> tuple[int, int, int]:
    """Return the sides of a box."""
    x, y, z = (side.stop - side.start for side in box)
    return x, y, z

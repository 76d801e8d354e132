"""Margins that each layer of a chain needs where only a part of the result is wanted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .steps import Step
from .tiles import Box, full


@dataclass(frozen=True)
class Pass:
    """A step and where it is computed.

    Parameters
    ----------
    step : Step
        The layer.
    source, result : tuple of 3 slice
        What it reads and what it makes, in voxels of the whole volume.
    """

    step: Step
    source: Box
    result: Box

    @property
    def _missing(self) -> list[tuple[int, int]]:
        """Voxels before and after, for each axis, that lie outside the volume."""
        if not self.step.keeps_grid:
            # The whole of both grids.
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
        """Planes of zeros before and after."""
        return self._missing[0]

    @property
    def padding(self) -> tuple[tuple[int, int], ...]:
        """Zeros along y and z."""
        return tuple(self._missing[1:])

    @property
    def width(self) -> int:
        """Channels of the wider side."""
        return max(self.step.kernel.shape[3:])

    @property
    def count(self) -> int:
        """Planes made."""
        return lengths(self.result)[0]

    @property
    def padded(self) -> int:
        """Planes read, with those of zeros."""
        return lengths(self.source)[0] + sum(self.zeros)

    @property
    def given(self) -> int:
        """Values of a plane that is read."""
        return math.prod(lengths(self.source)[1:]) * self.step.kernel.shape[3]

    @property
    def made(self) -> int:
        """Values of a plane that is made."""
        return math.prod(lengths(self.result)[1:]) * self.step.kernel.shape[4]


def passes_of(steps: Sequence[Step], shape: Sequence[int], keep: Box) -> list[Pass]:
    """Find out, from the last step to the first, how far each must be computed."""
    passes = []
    shapes = [(shape[0], shape[1], shape[2])]
    for step in steps:
        shapes.append(step.made(shapes[-1]))
    # Moments are of the whole volume; and networks of coarser grids look far around.
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

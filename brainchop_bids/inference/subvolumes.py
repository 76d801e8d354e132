"""Inference on cubes of a volume, which may overlap."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..system.errors import SettingsError
from .confidence import confidence
from .tiles import Tile, cubes
from .uncertainty import entropy

_WAYS = ('gaussian', 'mean', 'vote')
# Standard deviation of the Gaussian weights, relative to the side of a cube, as in nnU-Net
# (Isensee et al., https://doi.org/10.1038/s41592-020-01008-z).
_SIGMA = 1 / 8


@dataclass(frozen=True)
class Subvolumes:
    """Rule for cubes: their size, their positions and their combination.

    Parameters
    ----------
    size : int
        Side of a cube, in voxels.
    overlap : int
        Overlap of neighbouring cubes, in voxels.
    random : int
        Number of further cubes at random positions, which are the same for each scan.
    combine : {'gaussian', 'mean', 'vote'}
        Combination of overlapping cubes: mean of probabilities, weighted by a Gaussian around
        the centre of each cube or not weighted, or majority vote of labels.

    Raises
    ------
    SettingsError
        If a number is invalid.

    Examples
    --------
    >>> str(Subvolumes.parse('64+overlap:32+vote'))
    '64+overlap:32+vote'
    """

    size: int
    overlap: int = 0
    random: int = 0
    combine: str = 'gaussian'

    def __post_init__(self) -> None:
        """Check the values."""
        if self.size < 8 or not 0 <= self.overlap < self.size or self.random > 10_000:
            raise SettingsError(
                f'subvolumes {self}: give a size of at least 8, an overlap below it, and at most '
                '10,000 random cubes'
            )

    @classmethod
    def parse(cls, text: str) -> 'Subvolumes':
        """Parse the short form, e.g. ``'64+overlap:32'``.

        Raises
        ------
        SettingsError
            If the text is not such a rule.
        """
        size, *rest = text.split('+')
        values: dict[str, Any] = {'size': size}
        for part in rest:
            name, _, value = part.partition(':')
            if part in _WAYS:
                name, value = 'combine', part
            if name in values or (name != 'combine' and not value) or name not in cls.fields():
                raise SettingsError(
                    f'subvolumes {text!r}: expected SIZE, then perhaps +overlap:N, +random:N and '
                    'one of +gaussian, +mean and +vote'
                )
            values[name] = value
        numbers = {name: value for name, value in values.items() if name != 'combine'}
        if not all(re.fullmatch(r'\d{1,6}', value) for value in numbers.values()):
            raise SettingsError(f'subvolumes {text!r}: sizes are whole numbers of voxels')
        return cls(**{**values, **{name: int(value) for name, value in numbers.items()}})

    @classmethod
    def fields(cls) -> tuple[str, ...]:
        """Return the names of the fields."""
        return tuple(cls.__dataclass_fields__)

    def __str__(self) -> str:
        """Return the short form."""
        parts = [str(self.size)]
        parts += [f'{n}:{v}' for n in ('overlap', 'random') if (v := getattr(self, n))]
        return '+'.join([*parts, *([self.combine] if self.combine != 'gaussian' else [])])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of a cube."""
        return (self.size,) * 3

    def tiles(self, shape: Sequence[int]) -> list[Tile]:
        """Return all cubes of a volume, in the order of their first plane (z).

        Parameters
        ----------
        shape : sequence of 3 int
            Shape of the volume.

        Returns
        -------
        list of Tile
            The cubes; if none overlap, each voxel is kept once.
        """
        if not self.overlap and not self.random:
            return cubes(shape, self.shape)
        step = self.size - self.overlap
        ends = [max(0, n - self.size) for n in shape]
        grid = [sorted({min(i, end) for i in range(0, end + step, step)}) for end in ends]
        corners = [(x, y, z) for z in grid[2] for y in grid[1] for x in grid[0]]
        rng = np.random.default_rng(0)
        more = rng.integers(0, np.array(ends) + 1, (self.random, 3))
        corners += [(int(x), int(y), int(z)) for x, y, z in more]
        found = []
        for corner in sorted(corners, key=lambda place: place[2]):
            sides = [
                (slice(i, i + self.size), slice(i, min(i + self.size, n)))
                for i, n in zip(corner, shape, strict=True)
            ]
            (ox, wx), (oy, wy), (oz, wz) = sides
            found.append(Tile((ox, oy, oz), (wx, wy, wz)))
        return found

    @property
    def overlapping(self) -> bool:
        """True if a voxel may be in several cubes."""
        return bool(self.overlap or self.random)


class Combination:
    """Sum of overlapping cubes, of which only the planes are kept that further cubes overlap.

    Parameters
    ----------
    rule : Subvolumes
        Size, overlap and combination of the cubes.
    shape : sequence of 3 int
        Shape of the volume.
    classes : int
        Number of classes.
    outputs : dict of str to array
        ``labels``, ``probabilities``, ``entropies`` and ``confidences``, filled as planes become
        complete.
    """

    def __init__(
        self, rule: Subvolumes, shape: Sequence[int], classes: int, outputs: dict[str, Any]
    ) -> None:
        self._rule = rule
        self._outputs = outputs
        self._planes = shape[2]
        self._done = 0
        # Plane z is stored at z modulo the size of a cube.
        held = (min(rule.size, shape[2]), shape[0], shape[1])
        self._sums = np.zeros((*held, classes), np.float32)
        self._weights = np.zeros(held, np.float32)
        place = (np.arange(rule.size) - (rule.size - 1) / 2) / (_SIGMA * rule.size)
        line = np.exp(-(place**2) / 2) if rule.combine == 'gaussian' else np.ones(rule.size)
        # A lower bound, since dividing by tiny weights would amplify rounding errors.
        self._cube = np.maximum(np.einsum('x,y,z->zxy', line, line, line), 1e-6).astype('f4')

    def add(self, tile: Tile, probabilities: np.ndarray) -> None:
        """Add a cube; cubes must be added in the order of their first plane.

        Parameters
        ----------
        tile : Tile
            The cube.
        probabilities : (X, Y, Z, classes) float32 array
            Probabilities of the cube's voxels that are inside the volume.
        """
        x, y, z = tile.own
        self._finish(z.start)
        nx, ny = x.stop - x.start, y.stop - y.start
        for place, plane in enumerate(range(z.start, z.stop)):
            weights = self._cube[place, :nx, :ny]
            values = probabilities[:, :, place]
            if self._rule.combine == 'vote':
                values = np.eye(values.shape[-1], dtype=np.float32)[values.argmax(-1)]
            row = plane % len(self._sums)
            self._sums[row, x, y] += weights[..., None] * values
            self._weights[row, x, y] += weights

    def finish(self) -> None:
        """Complete all planes."""
        self._finish(self._planes)

    def _finish(self, stop: int) -> None:
        for plane in range(self._done, stop):
            row = plane % len(self._sums)
            sums = self._sums[row]
            if 'labels' in self._outputs:
                self._outputs['labels'][:, :, plane] = sums.argmax(-1)
            if self._outputs.keys() & {'probabilities', 'entropies', 'confidences'}:
                probabilities = sums / self._weights[row][..., None]
            if 'probabilities' in self._outputs:
                self._outputs['probabilities'][:, :, plane] = probabilities
            if 'entropies' in self._outputs:
                self._outputs['entropies'][:, :, plane] = entropy(probabilities)
            if 'confidences' in self._outputs:
                self._outputs['confidences'][:, :, plane] = confidence(probabilities)
            sums[...] = 0
            self._weights[row] = 0
        self._done = max(self._done, stop)

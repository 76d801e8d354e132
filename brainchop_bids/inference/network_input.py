"""Input of a network, which is normalised part by part."""

from collections.abc import Callable, Sequence

import numpy as np

from .tiles import Box, Tile


class Normalised:
    """Channels of a volume, which are normalised when a part of them is read.

    Parameters
    ----------
    channels : sequence of (X, Y, Z) array
        Channels before normalisation.
    rules : sequence of callable
        Functions that normalise a part of each channel, see `normaliser`.
    beyond : tuple of 3 int
        Number of zeros behind the last voxel, along each axis.
    factor : int
        Voxels of a coarse voxel along each axis; they become its channels (space to depth).
    backwards : bool
        True if the axes are in reversed order.
    """

    def __init__(
        self,
        channels: Sequence[np.ndarray],
        rules: Sequence[Callable[[np.ndarray], np.ndarray]],
        beyond: Sequence[int] = (0, 0, 0),
        factor: int = 1,
        backwards: bool = False,
    ) -> None:
        self._channels = channels
        self._rules = rules
        self._beyond = tuple(beyond)
        self._factor = factor
        self._backwards = backwards

    @property
    def shape(self) -> tuple[int, ...]:
        """Numbers of voxels (or coarse voxels) along each axis, and of channels."""
        sides = zip(self._channels[0].shape, self._beyond, strict=True)
        channels = self._factor**3 * len(self._channels)
        return *((n + more) // self._factor for n, more in sides), channels

    @property
    def uniform(self) -> tuple[float, ...]:
        """Value of each channel if all of its voxels are equal, an empty tuple otherwise."""
        if any(self._beyond) or any(c.min() != c.max() for c in self._channels):
            return ()
        return tuple(float(channel.flat[0]) for channel in self._channels)

    def cut(self, tile: Tile) -> 'Normalised':
        """Return the input of a tile, with zeros behind the end of the volume."""
        parts = [channel[tile.outer] for channel in self._channels]
        beyond = [n - m for n, m in zip(tile.shape, parts[0].shape, strict=True)]
        return Normalised(parts, self._rules, beyond)

    def rounded(self, unit: int) -> 'Normalised':
        """Return the input with zeros behind its end, its sides being multiples of ``unit``."""
        beyond = [more + -n % unit for more, n in zip(self._beyond, self.shape[:3], strict=True)]
        return Normalised(self._channels, self._rules, beyond)

    def gathered(self, factor: int) -> 'Normalised':
        """Return the input as coarse voxels of ``factor`` voxels along each axis."""
        return Normalised(self._channels, self._rules, self._beyond, factor)

    def transposed(self) -> 'Normalised':
        """Return the input with its three spatial axes in reversed order."""
        given = [channel.transpose(2, 1, 0) for channel in self._channels]
        return Normalised(
            given, self._rules, self._beyond[::-1], self._factor, not self._backwards
        )

    def __getitem__(self, box: Box) -> np.ndarray:
        """Return a part of the input, (X, Y, Z, channels) float32."""
        n = self._factor
        x, y, z = (slice(side.start * n, side.stop * n) for side in box)
        values = self._voxels((x, y, z))
        if n == 1:
            return values
        sides = [side.stop - side.start for side in box]
        places = np.empty((*sides, n**3, values.shape[-1]), np.float32)
        for i, phase in enumerate(np.ndindex(n, n, n)):
            x, y, z = (slice(k, None, n) for k in (phase[::-1] if self._backwards else phase))
            places[..., i, :] = values[x, y, z]
        return places.reshape(*sides, -1)

    def _voxels(self, box: Box) -> np.ndarray:
        parts = [
            rule(channel[box]) for channel, rule in zip(self._channels, self._rules, strict=True)
        ]
        values = parts[0][..., None] if len(parts) == 1 else np.stack(parts, -1)
        missing = [
            side.stop - side.start - n for side, n in zip(box, values.shape[:3], strict=True)
        ]
        return np.pad(values, [*((0, n) for n in missing), (0, 0)]) if any(missing) else values

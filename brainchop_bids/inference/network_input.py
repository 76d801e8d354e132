"""Input of a network, normalised part by part."""

from collections.abc import Callable, Sequence

import numpy as np

from .tiles import Box, Tile


class Normalised:
    """A volume's normalised channels, made part by part.

    Parameters
    ----------
    channels : sequence of (X, Y, Z) array
        Before normalisation.
    rules : sequence of callable
        How each is normalised.
    beyond : tuple of 3 int
        Voxels of zeros that follow the last ones.
    factor : int
        Voxels along each axis that make one place, whose channels they become.
    backwards : bool
        Whether the axes are in the opposite order.
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
        """Voxels, or places, and channels."""
        sides = zip(self._channels[0].shape, self._beyond, strict=True)
        channels = self._factor**3 * len(self._channels)
        return *((n + more) // self._factor for n, more in sides), channels

    def cut(self, tile: Tile) -> 'Normalised':
        """Return what a tile computes; behind the end of the volume there is nothing."""
        parts = [channel[tile.outer] for channel in self._channels]
        beyond = [n - m for n, m in zip(tile.shape, parts[0].shape, strict=True)]
        return Normalised(parts, self._rules, beyond)

    def rounded(self, unit: int) -> 'Normalised':
        """Return it with zeros behind its end up to sides that are multiples of a number."""
        beyond = [more + -n % unit for more, n in zip(self._beyond, self.shape[:3], strict=True)]
        return Normalised(self._channels, self._rules, beyond)

    def gathered(self, factor: int) -> 'Normalised':
        """Return its places of so many voxels along each axis; sides must be multiples."""
        return Normalised(self._channels, self._rules, self._beyond, factor)

    def transposed(self) -> 'Normalised':
        """Return it with its three axes in the opposite order; channels stay as they are."""
        given = [channel.transpose(2, 1, 0) for channel in self._channels]
        return Normalised(
            given, self._rules, self._beyond[::-1], self._factor, not self._backwards
        )

    def __getitem__(self, box: Box) -> np.ndarray:
        """Return (X, Y, Z, channels) float32 of a part."""
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

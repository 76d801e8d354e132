"""The sector of a volume in which an organ lies, from probabilities on its frames."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from ...image.boxes import bounding_box
from .frames import Frames, interpolation

# Cells of the common grid along the longest side of the volume: some more than frames have pixels.
_CELLS = 96
# A cell belongs to the organ above this mean probability of all passes.
_LIKELY = 0.45
# Radius, in cells, by which the organ is opened, so that what only touches it is left out.
_OPENING = 2
# Least area of the organ at its ends, as a share of its largest area.
_TIP = 0.005
# Width of the zones on both sides of an end that are compared for its certainty, mm.
_ZONE = 10.0
# Least volume of an organ, mm^3.
_LEAST = 2000.0


@dataclass(frozen=True)
class Extent:
    """Where an organ lies along one axis.

    Parameters
    ----------
    first, last : int
        First and last frame with the organ, both included.
    certainties : tuple of 2 float
        Mean probability of the organ within 1 cm of each end, less that of the same places up to
        2 cm beyond it: 1 is certain, 0 is not told from chance. At the end of the field of view,
        the probability there.
    """

    first: int
    last: int
    certainties: tuple[float, float]


@dataclass(frozen=True)
class Sector:
    """A box around an organ, aligned with the axes of the volume.

    Parameters
    ----------
    extents : tuple of 3 Extent
        One for each axis of the volume.
    volume : float
        Volume of the organ by its pixels, mL; a rough one.
    """

    extents: tuple[Extent, Extent, Extent]
    volume: float

    @property
    def certainty(self) -> float:
        """Certainty of the least certain end, 0 to 1."""
        return min(min(extent.certainties) for extent in self.extents)

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The box in voxels."""
        x, y, z = (slice(extent.first, extent.last + 1) for extent in self.extents)
        return x, y, z

    def sides(self, zooms: Sequence[float]) -> list[float]:
        """Return the lengths of the box, mm."""
        return [
            (extent.last + 1 - extent.first) * zoom
            for extent, zoom in zip(self.extents, zooms, strict=True)
        ]

    def moved(self, box: 'Sector') -> 'Sector':
        """Return the sector of a whole volume, of one that was found in a box of it."""
        x, y, z = (
            replace(extent, first=extent.first + start.first, last=extent.last + start.first)
            for extent, start in zip(self.extents, box.extents, strict=True)
        )
        return replace(self, extents=(x, y, z))

    def grown(self, margin: float, shape: Sequence[int], zooms: Sequence[float]) -> 'Sector':
        """Return the sector with a margin in mm on all sides, as far as the volume goes."""
        extents = []
        for extent, length, zoom in zip(self.extents, shape, zooms, strict=True):
            more = round(margin / zoom)
            first, last = max(0, extent.first - more), min(length - 1, extent.last + more)
            extents.append(replace(extent, first=first, last=last))
        return replace(self, extents=(extents[0], extents[1], extents[2]))


def find_sector(
    passes: Sequence[tuple[Frames, np.ndarray]], shape: Sequence[int], zooms: Sequence[float]
) -> Sector | None:
    """Find the box around the largest organ.

    All passes are resampled to one grid, on which their probabilities are averaged: a single pass
    takes parts of a neck for a brain, but not the same parts as the others.

    Parameters
    ----------
    passes : sequence of (Frames, (n, 64, 64) float32)
        Frames along different axes, and the probability of the organ in each of their pixels.
    shape : sequence of 3 int
        Shape of the volume.
    zooms : sequence of 3 float
        Voxel sizes, mm.

    Returns
    -------
    Sector or None
        None if there is no organ.
    """
    if not passes:
        return None
    sides = [length * float(zoom) for length, zoom in zip(shape, zooms, strict=True)]
    cell = max(sides) / _CELLS
    grid = [max(1, round(side / cell)) for side in sides]
    sizes = [side / count for side, count in zip(sides, grid, strict=True)]
    likely = np.mean([_resampled(*one, grid, sizes) for one in passes], axis=0)
    organ = _largest(likely > _LIKELY)
    volume = float(organ.sum() * np.prod(sizes))
    if volume < _LEAST:
        return None
    extents = []
    for axis, (size, zoom) in enumerate(zip(sizes, zooms, strict=True)):
        others = tuple(n for n in range(3) if n != axis)
        area = organ.sum(others)
        present = np.flatnonzero(area > _TIP * area.max())
        # The cells' outer edges, in voxels.
        first, last = present[0] * size / zoom, (present[-1] + 1) * size / zoom - 1
        certainties = _certainties(
            np.moveaxis(likely, axis, 0),
            np.moveaxis(organ, axis, 0),
            present[0],
            present[-1],
            max(1, round(_ZONE / size)),
        )
        extents.append(Extent(round(first), round(last), certainties))
    return Sector((extents[0], extents[1], extents[2]), volume / 1000)


def _resampled(
    frames: Frames, probability: np.ndarray, grid: Sequence[int], sizes: Sequence[float]
) -> np.ndarray:
    """Return the probabilities of one pass at the cells of a grid, (I, J, K) float32."""
    others = [n for n in range(3) if n != frames.axis]
    result = np.moveaxis(probability, 0, frames.axis)
    zoom = sizes[frames.axis] * grid[frames.axis] / len(probability)
    sources = {frames.axis: zoom, others[0]: frames.rows.pixel, others[1]: frames.columns.pixel}
    # The axis across the frames, which is the longest, comes first.
    for axis, source in sources.items():
        weights = interpolation(result.shape[axis], source, grid[axis], sizes[axis])
        result = np.moveaxis(np.tensordot(weights, result, (1, axis)), 0, axis)
    return result


def _largest(mask: np.ndarray) -> np.ndarray:
    """Return the largest part of a mask, without what only touches it."""
    # What is cut off by the end of the field of view extends beyond it.
    padded = np.pad(mask, _OPENING, mode='edge')
    box = bounding_box(padded)
    if box is None:
        return mask
    near = tuple(slice(max(0, part.start - 1), part.stop + 1) for part in box)
    part = padded[near]
    cores = _distance(part) > _OPENING
    if not cores.any():
        # The organ is small.
        cores = part
    parts, _ = ndimage.label(cores)
    sizes = np.bincount(parts.reshape(-1))
    organ = parts == 1 + int(np.argmax(sizes[1:]))
    padded[near] = part & (_distance(~organ) <= _OPENING)
    inner: np.ndarray = padded[(slice(_OPENING, -_OPENING),) * 3]
    return inner


def _distance(mask: np.ndarray) -> np.ndarray:
    """Return the distance to the nearest cell outside of the mask, infinite if there is none."""
    if mask.all():
        return np.full(mask.shape, np.inf)
    distance: np.ndarray = ndimage.distance_transform_edt(mask)
    return distance


def _certainties(
    likely: np.ndarray, organ: np.ndarray, first: int, last: int, zone: int
) -> tuple[float, float]:
    """Return by how much the probability of the organ rises at both ends of the first axis."""
    ends = []
    for step, end in ((1, first), (-1, len(organ) - 1 - last)):
        probability, mask = likely[::step], organ[::step]
        inner = slice(end, end + zone)
        # Frames just outside show the organ's tip.
        outer = slice(max(0, end - 2 * zone), max(0, end - zone // 2))
        beyond = probability[outer, mask[inner].any(0)]
        within = probability[inner][mask[inner]].mean()
        ends.append(float(np.clip(within - (beyond.mean() if beyond.size else 0), 0, 1)))
    return ends[0], ends[1]

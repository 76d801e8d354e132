"""The sector of a volume in which an organ lies, from probabilities on its frames."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from .frames import Frames

# A pixel belongs to the organ above this probability.
_LIKELY = 0.5
# Least area of the organ in its first and last frame, and gaps within it, mm^2 and mm.
_TIP, _GAP = 120.0, 3.0
# Reach within which a frame's pixels count beyond what the other axes say, mm.
_ROUND = 12.0
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
        By how much the probability of the organ rises across each end, within 1 cm: 1 is
        certain, 0 is not told from chance. At the end of the field of view, the probability
        there.
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

    def grown(self, margin: float, shape: Sequence[int], zooms: Sequence[float]) -> 'Sector':
        """Return the sector with a margin in mm on all sides, as far as the volume goes."""
        extents = []
        for extent, length, zoom in zip(self.extents, shape, zooms, strict=True):
            more = round(margin / zoom)
            first, last = max(0, extent.first - more), min(length - 1, extent.last + more)
            extents.append(replace(extent, first=first, last=last))
        return replace(self, extents=(extents[0], extents[1], extents[2]))


@dataclass(frozen=True)
class _Found:
    """The largest connected part along one axis: its extent along each, voxels, its mm^3, and the
    pixels of the frames.
    """

    extents: tuple[tuple[float, float], ...]
    volume: float
    mask: np.ndarray


def find_sector(
    passes: Sequence[tuple[Frames, np.ndarray]], shape: Sequence[int], zooms: Sequence[float]
) -> Sector | None:
    """Find the box around the largest organ.

    Along each axis, the frames themselves tell the extent, in their full number: the run of
    frames with most of the organ. Where else in a frame to look is the median of what all axes
    say, so that one that is wrong does not matter.

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
    parts = [_largest(frames, probability, zooms) for frames, probability in passes]
    found = [part for part in parts if part is not None]
    # Something that only one axis sees is chance.
    if not found or 2 * len(found) < len(passes):
        return None
    agreed = [
        (
            float(np.median([part.extents[axis][0] for part in found])),
            float(np.median([part.extents[axis][1] for part in found])),
        )
        for axis in range(3)
    ]
    if any(last < first for first, last in agreed):
        return None
    own = {
        frames.axis: extent
        for (frames, probability), part in zip(passes, parts, strict=True)
        if part is not None
        and (extent := _own_extent(frames, probability, part.mask, agreed, zooms)) is not None
    }
    if not own:
        return None
    extents = [
        own.get(axis) or _rounded(agreed[axis], shape[axis], min(map(_least, own.values())))
        for axis in range(3)
    ]
    volume = float(np.median([part.volume for part in found])) / 1000
    return Sector((extents[0], extents[1], extents[2]), volume)


def _least(extent: Extent) -> float:
    return min(extent.certainties)


def _rounded(extent: tuple[float, float], length: int, certainty: float) -> Extent:
    """Return the extent along an axis without frames of its own."""
    first, last = (int(np.clip(round(end), 0, length - 1)) for end in extent)
    return Extent(first, last, (certainty, certainty))


def _largest(frames: Frames, probability: np.ndarray, zooms: Sequence[float]) -> _Found | None:
    """Return the largest connected part along an axis, None if it is too small."""
    likely = probability > _LIKELY
    # Frames in which the network misses the organ do not divide it.
    gap = 2 * round(_GAP / zooms[frames.axis] / 2) + 1
    joined = likely | ndimage.binary_closing(likely, np.ones((gap, 1, 1)))
    parts, count = ndimage.label(joined, np.ones((3, 3, 3)))
    if not count:
        return None
    sums = ndimage.sum_labels(probability * likely, parts, np.arange(1, count + 1))
    best = int(np.argmax(sums))
    volume = float(sums[best]) * frames.rows.pixel * frames.columns.pixel * zooms[frames.axis]
    if volume < _LEAST:
        return None
    mask = likely & (parts == best + 1)
    [box] = ndimage.find_objects(mask.view(np.uint8))
    extents: list[tuple[float, float]] = [(0, 0)] * 3
    places = [None, frames.rows, frames.columns]
    others = [n for n in range(3) if n != frames.axis]
    for axis, place, side in zip([frames.axis, *others], places, box, strict=True):
        if place is None:
            extents[axis] = (side.start, side.stop - 1)
        else:
            low, high = place.to_voxel(side.start - 0.5), place.to_voxel(side.stop - 0.5)
            extents[axis] = (low + 0.5, high - 0.5)
    return _Found(tuple(extents), volume, mask)


def _own_extent(
    frames: Frames,
    probability: np.ndarray,
    mask: np.ndarray,
    agreed: Sequence[tuple[float, float]],
    zooms: Sequence[float],
) -> Extent | None:
    """Return the run of frames with most of the organ."""
    others = [n for n in range(3) if n != frames.axis]
    window = [
        place.pixels(*agreed[axis], _ROUND)
        for place, axis in zip((frames.rows, frames.columns), others, strict=True)
    ]
    inside, part = (array[:, window[0], window[1]] for array in (probability, mask))
    area = np.where(part, inside, 0).sum((1, 2))
    area *= frames.rows.pixel * frames.columns.pixel
    size = float(zooms[frames.axis])
    run = _main_run(area, _TIP, round(_GAP / size))
    if run is None:
        return None
    return Extent(*run, _certainties(inside.max((1, 2)), *run, max(1, round(_ZONE / size))))


def _main_run(area: np.ndarray, least: float, gap: int) -> tuple[int, int] | None:
    """Return first and last frame of the run with the largest sum, across short gaps."""
    present = np.flatnonzero(area >= least)
    if not present.size:
        return None
    ends = np.flatnonzero(np.diff(present) > gap + 1)
    starts = [present[0], *present[ends + 1]]
    stops = [*present[ends], present[-1]]
    runs = [(int(first), int(last)) for first, last in zip(starts, stops, strict=True)]
    return max(runs, key=lambda run: float(area[run[0] : run[1] + 1].sum()))


def _certainties(presence: np.ndarray, first: int, last: int, zone: int) -> tuple[float, float]:
    """Return by how much the presence of the organ rises at both ends."""
    ends = []
    for flipped, end in ((presence, first), (presence[::-1], len(presence) - 1 - last)):
        within = flipped[end : end + zone].mean()
        # Frames just outside show the organ's tip.
        beyond = flipped[max(0, end - 2 * zone) : max(0, end - zone // 2)]
        ends.append(float(np.clip(within - (beyond.mean() if beyond.size else 0), 0, 1)))
    return ends[0], ends[1]

"""The sector of a volume in which an organ lies, from probabilities on its frames."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from .frames import SIDE, Frames

# A pixel belongs to the organ above this probability.
_LIKELY = 0.5
# Least area of the organ in its first and last frame, as a share of its largest area.
_TIP = 0.03
# Gaps within an organ, and width of the zones on both sides of an end that are compared for its
# certainty, mm.
_GAP, _ZONE = 8.0, 10.0
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
class _Profile:
    """What one pass says along one axis of the volume.

    Parameters
    ----------
    area : (n,) float32
        Area of the organ in each frame, mm^2.
    presence : (n,) float32
        Largest probability of the organ in each frame.
    """

    area: np.ndarray
    presence: np.ndarray


def find_sector(
    passes: Sequence[tuple[Frames, np.ndarray]], shape: Sequence[int], zooms: Sequence[float]
) -> Sector | None:
    """Find the box around the largest organ.

    Each pass sees the organ along all three axes: along its own by the frames in their full
    number, along the others by their pixels. The area of the organ at a place is the median of
    what all passes say, so that one that is wrong does not matter: single frames of a neck look
    like a brain, and frames that show all of the head do not.

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
    masks = [_largest(frames, probability, zooms) for frames, probability in passes]
    if not masks:
        return None
    extents, volumes = [], []
    for axis in range(3):
        profiles = [
            _profile(frames, probability, mask, axis, shape, zooms)
            for (frames, probability), mask in zip(passes, masks, strict=True)
        ]
        area = np.median([one.area for one in profiles], axis=0)
        presence = np.median([one.presence for one in profiles], axis=0)
        size = float(zooms[axis])
        run = _main_run(area, _TIP * float(area.max()), round(_GAP / size))
        if run is None:
            return None
        certainties = _certainties(presence, *run, max(1, round(_ZONE / size)))
        extents.append(Extent(*run, certainties))
        volumes.append(float(area[run[0] : run[1] + 1].sum()) * size)
    if min(volumes) < _LEAST:
        return None
    return Sector((extents[0], extents[1], extents[2]), float(np.median(volumes)) / 1000)


def _largest(frames: Frames, probability: np.ndarray, zooms: Sequence[float]) -> np.ndarray:
    """Return the pixels of the largest connected part along an axis, (n, 64, 64) bool."""
    likely = probability > _LIKELY
    # Frames in which the network misses the organ do not divide it.
    gap = 2 * round(_GAP / zooms[frames.axis] / 2) + 1
    joined = likely | ndimage.binary_closing(likely, np.ones((gap, 1, 1)))
    parts, count = ndimage.label(joined, np.ones((3, 3, 3)))
    if not count:
        return likely
    sums = ndimage.sum_labels(probability * likely, parts, np.arange(1, count + 1))
    mask: np.ndarray = likely & (parts == int(np.argmax(sums)) + 1)
    return mask


def _profile(
    frames: Frames,
    probability: np.ndarray,
    mask: np.ndarray,
    axis: int,
    shape: Sequence[int],
    zooms: Sequence[float],
) -> _Profile:
    """Return what a pass says along an axis of the volume."""
    places = (frames.rows, frames.columns)
    if axis == frames.axis:
        pixel = places[0].pixel * places[1].pixel
        return _Profile(mask.sum((1, 2)) * pixel, probability.max((1, 2)))
    number = [n for n in range(3) if n != frames.axis].index(axis)
    across = (0, 2 - number)
    area = mask.sum(across) * zooms[frames.axis] * places[1 - number].pixel
    pixels = [places[number].to_voxel(n) for n in range(SIDE)]
    voxels = np.arange(shape[axis])
    area, presence = (
        np.interp(voxels, pixels, values) for values in (area, probability.max(across))
    )
    return _Profile(area, presence)


def _main_run(area: np.ndarray, least: float, gap: int) -> tuple[int, int] | None:
    """Return first and last frame of the run with the largest sum, across short gaps."""
    present = np.flatnonzero(area > least)
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

"""Connected components: what brainchop keeps of a label map, and a brain mask without holes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cc3d
import numpy as np
from scipy import ndimage

from .cleanup import Cleanup
from .lookup import histogram, lookup

# Of the largest part's size, eroded: smaller ones are gyri, not tongues.
_THICK = 0.001


@dataclass(frozen=True)
class Removed:
    """What a component rule took away.

    Parameters
    ----------
    components : int
        Number of components set to background.
    voxels : int
        Number of voxels set to background.
    filled : int
        Number of background voxels that got a label.
    """

    components: int
    voxels: int
    filled: int = 0


def keep_components(
    labels: np.ndarray,
    rule: str | Cleanup = 'largest',
    *,
    zooms: Sequence[float] | np.ndarray = (1, 1, 1),
) -> tuple[np.ndarray, Removed]:
    """Drop islands, by 26-connectivity.

    Parameters
    ----------
    labels : (X, Y, Z) array of unsigned integers
        Label map, 0 is background.
    rule : Cleanup or str
        What stays; text as `Cleanup.parse` reads it.
    zooms : sequence of 3 float
        Voxel sizes in mm.

    Returns
    -------
    labels : (X, Y, Z) array
        A new array of the same dtype (the same array where nothing is to be done).
    removed : Removed
        What was set to background.

    Raises
    ------
    SettingsError
        For another rule.

    Examples
    --------
    >>> keep_components(np.array([[[1, 2, 0, 1]]], dtype=np.uint8))
    (array([[[1, 2, 0, 0]]], dtype=uint8), Removed(components=1, voxels=1, filled=0))
    """
    cleanup = Cleanup.parse(rule) if isinstance(rule, str) else rule
    idle = cleanup == Cleanup('none')
    box = None if idle else bounding_box(labels != 0)
    if box is None:
        return labels, Removed(0, 0)
    inside = labels[box]
    joined = _joined(inside, cleanup)
    parts = _parts(joined)
    sizes = _sizes(parts)
    keep = _kept(joined, parts, sizes, cleanup)
    keep &= sizes * math.prod(map(float, zooms)) >= cleanup.min_mm3
    gone = ~keep
    gone[0] = False
    stay = lookup(keep, parts)
    cut = 0
    if cleanup.open_mm:
        whole = stay
        stay = _without_hangers(whole, np.asarray(zooms, dtype=float), cleanup.open_mm)
        cut = int(np.count_nonzero(whole)) - int(np.count_nonzero(stay))
    kept = inside * stay
    filled = 0
    if cleanup.fill:
        kept, filled = _filled(kept)
    result = np.zeros_like(labels)
    result[box] = kept
    return result, Removed(int(gone.sum()), int(sizes[gone].sum()) + cut, filled)


def _joined(labels: np.ndarray, cleanup: Cleanup) -> np.ndarray:
    """Return the map in which components are sought: labels that belong together are one."""
    if cleanup.rule == 'groups':
        table = np.arange(int(labels.max()) + 1, dtype=labels.dtype)
        for group in cleanup.groups:
            table[[label for label in group if label < table.size]] = group[0]
        return lookup(table, labels)
    return labels if cleanup.rule == 'per-label' else labels != 0


def _kept(
    joined: np.ndarray, parts: np.ndarray, sizes: np.ndarray, cleanup: Cleanup
) -> np.ndarray:
    """Tell which components the rule keeps, whatever their size."""
    keep = np.zeros(sizes.size, dtype=bool)
    if cleanup.rule == 'none':
        keep[1:] = True
    elif cleanup.rule == 'largest':
        keep[np.argmax(sizes)] = True
    else:
        keep = _largest_of_each(joined, parts, sizes)
        if cleanup.rule == 'groups':
            free = ~np.isin(joined, [group[0] for group in cleanup.groups])
            keep[np.unique(parts[free])] = True
            keep[0] = False
    return keep


def _without_hangers(mask: np.ndarray, zooms: np.ndarray, radius: float) -> np.ndarray:
    """Drop what lies nearer to another thick part of the mask than to the largest one."""
    reach = [1 + int(radius // zoom) for zoom in zooms]
    inside = tuple(slice(r, -r) for r in reach)
    core = ~_within(np.pad(~mask, [(r, r) for r in reach], constant_values=True), zooms, radius)
    parts = _parts(core[inside])
    sizes = _sizes(parts)
    largest = int(np.argmax(sizes))
    others = sizes > _THICK * sizes[largest]
    others[largest] = False
    if not others.any():
        return mask
    to_largest, to_others = (
        ndimage.distance_transform_edt(away, sampling=zooms)
        for away in (parts != largest, ~lookup(others, parts))
    )
    rest = _parts(mask & (to_largest <= to_others))
    return rest == rest[np.unravel_index(np.argmin(to_largest), rest.shape)]


def _filled(labels: np.ndarray) -> tuple[np.ndarray, int]:
    """Give holes the label of the nearest labelled voxel."""
    holes = fill_holes(labels != 0) & (labels == 0)
    if not holes.any():
        return labels, 0
    nearest = ndimage.distance_transform_edt(
        labels == 0, return_distances=False, return_indices=True
    )
    result = labels.copy()
    result[holes] = labels[tuple(axis[holes] for axis in nearest)]
    return result, int(holes.sum())


def brain_mask(
    labels: np.ndarray,
    zooms: np.ndarray,
    *,
    closing_mm: float = 0.0,
    exclude: tuple[int, ...] = (),
) -> np.ndarray:
    """Make a brain mask: foreground, closed, its largest component, holes filled.

    Parameters
    ----------
    labels : (X, Y, Z) array of unsigned integers
        Label map, 0 is background.
    zooms : (3,) array
        Voxel sizes in mm.
    closing_mm : float
        Radius in mm of the ball of a morphological closing; 0 for none. Needed where ventricles
        or sulcal fluid are background in the label map.
    exclude : tuple of int
        Labels that are no brain.

    Returns
    -------
    (X, Y, Z) uint8
        1 in the brain. All zero where the label map has no foreground.
    """
    foreground = labels != 0
    if exclude:
        foreground &= ~np.isin(labels, exclude)
    result = np.zeros_like(labels, dtype=np.uint8, subok=False)
    box = bounding_box(foreground)
    if box is None:
        return result
    reach = [1 + int(closing_mm // zoom) for zoom in np.asarray(zooms, dtype=float)]
    mask = np.pad(foreground[box], [(r, r) for r in reach])
    if closing_mm > 0:
        mask = _close(mask, zooms, closing_mm)
    parts = _parts(mask)
    sizes = _sizes(parts)
    mask = fill_holes(parts == np.argmax(sizes))
    result[box] = mask[tuple(slice(r, n - r) for r, n in zip(reach, mask.shape, strict=True))]
    return result


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """Fill every hole that no path of face neighbours joins to the border.

    Parameters
    ----------
    mask : (X, Y, Z) bool
        What to fill.

    Returns
    -------
    (X, Y, Z) bool
        As `scipy.ndimage.binary_fill_holes` gives, by one pass of component labelling.
    """
    outside = _parts(np.pad(~mask, 1, constant_values=True), connectivity=6)
    return (outside != outside[0, 0, 0])[1:-1, 1:-1, 1:-1]


def _close(mask: np.ndarray, zooms: np.ndarray, radius: float) -> np.ndarray:
    return ~_within(~_within(mask, zooms, radius), zooms, radius)


def _within(mask: np.ndarray, zooms: np.ndarray, radius: float) -> np.ndarray:
    """Tell which voxels lie within ``radius`` mm of the mask (dilation by a ball).

    Squared distances, one axis after the other, as in the exact Euclidean transform of
    Felzenszwalb and Huttenlocher (2012), but looking no further than the radius: for the few mm
    of a closing this is much faster than the full transform.
    """
    zooms = np.asarray(zooms, dtype=np.float64)
    limit = radius * radius * (1 + 1e-6)
    dtype: np.dtype[Any] = np.dtype(np.float32)
    if radius <= 8 and np.allclose(zooms, 1, rtol=0, atol=1e-6):
        # Of millimetres all squares are whole: bytes are four times as quick.
        zooms, dtype = np.ones(3), np.dtype('u1')
    most = dtype.type(limit)
    far = dtype.type(2 * most + 1)
    square = np.where(mask, dtype.type(0), far)
    for axis, zoom in enumerate(zooms):
        nearest = square.copy()
        for step in range(1, int(radius // zoom) + 1):
            extra = dtype.type((step * zoom) ** 2)
            below, above = _shifted(axis, step)
            for here, there in ((below, above), (above, below)):
                np.minimum(nearest[here], square[there] + extra, out=nearest[here])
        square = nearest
    return square <= most


def _shifted(axis: int, step: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    whole = [slice(None)] * 3
    low, high = list(whole), list(whole)
    low[axis], high[axis] = slice(None, -step), slice(step, None)
    return tuple(low), tuple(high)


def bounding_box(mask: np.ndarray) -> tuple[slice, ...] | None:
    """Return the smallest box that holds all that is True; None where nothing is.

    Parameters
    ----------
    mask : bool array
        Any shape.
    """
    box: list[slice] = []
    for axis in range(mask.ndim):
        # Within what is left, so that each step has less to look at.
        part = mask[tuple(box)]
        others = tuple(other for other in range(mask.ndim) if other != axis)
        found = np.flatnonzero(part.any(axis=others))
        if not found.size:
            return None
        box.append(slice(int(found[0]), int(found[-1]) + 1))
    return tuple(box)


def _parts(array: np.ndarray, connectivity: Literal[6, 26] = 26) -> np.ndarray:
    # cc3d 4.1 misreads views with an axis of one voxel, and its way for binary images runs out
    # of labels on tiny ones (and is the slower one): give it a compact array of integers.
    values = array.view(np.uint8) if array.dtype == bool else array
    return cc3d.connected_components(np.array(values, order='F'), connectivity=connectivity)


def _sizes(parts: np.ndarray) -> np.ndarray:
    sizes = histogram(parts)
    sizes[0] = 0
    return sizes


def _largest_of_each(labels: np.ndarray, parts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    label_of = np.zeros(sizes.size, dtype=np.int64)
    label_of[parts] = labels
    keep = np.zeros(sizes.size, dtype=bool)
    for label in np.unique(label_of[1:]):
        of_label = np.flatnonzero(label_of == label)
        keep[of_label[np.argmax(sizes[of_label])]] = True
    return keep

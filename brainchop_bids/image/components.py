"""Connected components of label maps, and brain masks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import cc3d
import numpy as np
from scipy import ndimage

from .boxes import bounding_box
from .cleanup import Cleanup, MaskRule
from .lookup import histogram, lookup

# Smallest size of a part of the eroded mask that is removed, relative to the largest part;
# smaller parts are gyri.
_THICK = 0.001


@dataclass(frozen=True)
class Removed:
    """Numbers of components and voxels that a rule changed.

    Parameters
    ----------
    components : int
        Number of components set to background.
    voxels : int
        Number of voxels set to background.
    filled : int
        Number of background voxels that were given a label.
    """

    components: int
    voxels: int
    filled: int = 0


def clean_labels(
    labels: np.ndarray,
    rule: str | Cleanup = 'largest',
    mask_rule: MaskRule | None = None,
    *,
    zooms: Sequence[float] | np.ndarray = (1, 1, 1),
) -> tuple[np.ndarray, np.ndarray, Removed]:
    """Clean up a label map, make the brain mask from it, and remove labels far from the mask.

    Parameters
    ----------
    labels : (X, Y, Z) array of unsigned integers
        Label map, 0 is background.
    rule : Cleanup or str
        Clean-up rule; text is read by `Cleanup.parse`.
    mask_rule : MaskRule, optional
        Rule for the mask; by default it is made from all labels.
    zooms : sequence of 3 float
        Voxel sizes in mm.

    Returns
    -------
    labels : (X, Y, Z) array
        Labels that were kept: after `keep_components`, labels are removed as
        `Cleanup.within_mm` says, and then the islands that this leaves.
    mask : (X, Y, Z) uint8
        Brain mask, see `brain_mask`.
    removed : Removed
        Numbers of components and voxels that were changed.

    Raises
    ------
    SettingsError
        If the text is not a rule.
    """
    cleanup = Cleanup.parse(rule) if isinstance(rule, str) else rule
    mask_rule = mask_rule or MaskRule()
    kept, removed = keep_components(labels, cleanup, zooms=zooms)
    mask = brain_mask(kept, zooms, mask_rule)
    if not cleanup.within_mm:
        return kept, mask, removed
    near = _near_mask(kept, mask, cleanup.within_mm, mask_rule.exclude, zooms)
    far = int(np.count_nonzero(kept != near))
    result, islands = keep_components(near, replace(cleanup, open_mm=0.0), zooms=zooms)
    total = Removed(
        removed.components + islands.components,
        removed.voxels + far + islands.voxels,
        removed.filled + islands.filled,
    )
    return result, mask, total


def keep_components(
    labels: np.ndarray,
    rule: str | Cleanup = 'largest',
    *,
    zooms: Sequence[float] | np.ndarray = (1, 1, 1),
) -> tuple[np.ndarray, Removed]:
    """Remove connected components (26 neighbours) of a label map by a rule.

    Parameters
    ----------
    labels : (X, Y, Z) array of unsigned integers
        Label map, 0 is background.
    rule : Cleanup or str
        Clean-up rule; text is read by `Cleanup.parse`. Its ``within_mm`` is ignored, since it
        needs a mask: see `clean_labels`.
    zooms : sequence of 3 float
        Voxel sizes in mm.

    Returns
    -------
    labels : (X, Y, Z) array
        A new array of the same dtype (the same array if there is nothing to do).
    removed : Removed
        Numbers of components and voxels that were changed.

    Raises
    ------
    SettingsError
        If the text is not a rule.

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
    """Return the map whose components are computed: labels of one group have one value."""
    if cleanup.rule == 'groups':
        table = np.arange(int(labels.max()) + 1, dtype=labels.dtype)
        for group in cleanup.groups:
            table[[label for label in group if label < table.size]] = group[0]
        return lookup(table, labels)
    return labels if cleanup.rule == 'per-label' else labels != 0


def _kept(
    joined: np.ndarray, parts: np.ndarray, sizes: np.ndarray, cleanup: Cleanup
) -> np.ndarray:
    """Return a flag for each component: True if the rule keeps it, regardless of its size."""
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
    """Remove voxels that are nearer to another part of the eroded mask than to the largest."""
    padded, inside = _padded(mask, zooms, radius)
    parts = _parts(~_within(~padded, zooms, radius)[inside])
    sizes = _sizes(parts)
    largest = int(np.argmax(sizes))
    others = sizes > _THICK * sizes[largest]
    others[largest] = False
    if not others.any():
        return mask
    main = parts == largest
    nearest = ndimage.distance_transform_edt(
        ~(main | lookup(others, parts)),
        sampling=zooms,
        return_distances=False,
        return_indices=True,
    )
    stays = mask.copy()
    stays[mask] = main[tuple(axis[mask] for axis in nearest)]
    rest = _parts(stays)
    return rest == rest[np.unravel_index(np.argmax(main), main.shape)]


def _filled(labels: np.ndarray) -> tuple[np.ndarray, int]:
    """Fill holes with the label of the nearest labelled voxel."""
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
    labels: np.ndarray, zooms: Sequence[float] | np.ndarray, rule: MaskRule | None = None
) -> np.ndarray:
    """Make a brain mask from labels.

    Structures connected through narrow bridges are removed, the mask is closed, its largest
    component is kept, and holes are filled.

    Parameters
    ----------
    labels : (X, Y, Z) array of unsigned integers
        Label map, 0 is background.
    zooms : sequence of 3 float
        Voxel sizes in mm.
    rule : MaskRule, optional
        Rule for the mask; by default it is made from all labels.

    Returns
    -------
    (X, Y, Z) uint8
        1 inside the brain; all zero if the label map has no foreground.
    """
    rule, zooms = rule or MaskRule(), np.asarray(zooms, dtype=float)
    foreground = labels != 0
    if rule.exclude:
        foreground &= ~np.isin(labels, rule.exclude)
    result = np.zeros_like(labels, dtype=np.uint8, subok=False)
    box = bounding_box(foreground)
    if box is None:
        return result
    mask, inside = _padded(foreground[box], zooms, rule.closing_mm)
    if rule.open_mm:
        mask = _without_hangers(_largest(mask), zooms, rule.open_mm)
    if rule.closing_mm:
        mask = _close(mask, zooms, rule.closing_mm)
    result[box] = fill_holes(_largest(mask))[inside]
    return result


def _near_mask(
    labels: np.ndarray,
    mask: np.ndarray,
    radius: float,
    exclude: tuple[int, ...],
    zooms: Sequence[float] | np.ndarray,
) -> np.ndarray:
    """Remove labels outside the mask; excluded labels are kept within the radius around it."""
    result = np.zeros_like(labels)
    box = bounding_box((labels != 0) | (mask != 0))
    if box is None:
        return result
    found, brain = labels[box], mask[box] != 0
    around = _within(brain, np.asarray(zooms, dtype=float), radius) & np.isin(found, exclude)
    result[box] = found * (brain | around)
    return result


def _padded(
    mask: np.ndarray, zooms: np.ndarray, radius: float
) -> tuple[np.ndarray, tuple[slice, ...]]:
    """Return the mask with a border wider than the radius, and the mask's box in the result."""
    reach = [1 + int(radius // zoom) for zoom in zooms]
    inside = tuple(slice(r, r + n) for r, n in zip(reach, mask.shape, strict=True))
    return np.pad(mask, [(r, r) for r in reach]), inside


def _largest(mask: np.ndarray) -> np.ndarray:
    parts = _parts(mask)
    return parts == np.argmax(_sizes(parts))


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """Fill holes: background that no path of face neighbours connects to the border.

    Parameters
    ----------
    mask : (X, Y, Z) bool
        Mask.

    Returns
    -------
    (X, Y, Z) bool
        As `scipy.ndimage.binary_fill_holes`, but in a single pass of component labelling.
    """
    outside = _parts(np.pad(~mask, 1, constant_values=True), connectivity=6)
    return (outside != outside[0, 0, 0])[1:-1, 1:-1, 1:-1]


def _close(mask: np.ndarray, zooms: np.ndarray, radius: float) -> np.ndarray:
    return ~_within(~_within(mask, zooms, radius), zooms, radius)


def _within(mask: np.ndarray, zooms: np.ndarray, radius: float) -> np.ndarray:
    """Return the voxels within ``radius`` mm of the mask (dilation by a ball).

    Squared distances are computed along one axis after the other, as in the exact Euclidean
    transform of Felzenszwalb and Huttenlocher (2012), but only up to the radius. For the few mm
    of a closing this is much faster than the full transform.
    """
    zooms = np.asarray(zooms, dtype=np.float64)
    limit = radius * radius * (1 + 1e-6)
    dtype: np.dtype[Any] = np.dtype(np.float32)
    if radius <= 8 and np.allclose(zooms, 1, rtol=0, atol=1e-6):
        # With voxels of 1 mm all squares are integers, and bytes are four times as fast.
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


def _parts(array: np.ndarray, connectivity: Literal[6, 26] = 26) -> np.ndarray:
    # cc3d 4.1 misreads views with an axis of one voxel, and its code for binary images runs out
    # of labels on tiny ones and is slower. A compact array of integers avoids both.
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

"""Label maps kept ready for drawing many images from each.

A map is kept as one byte for each voxel of the head's box, so that twenty of them fit a worker.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ...image.lookup import histogram, lookup
from ...models.mapping import LabelMapping
from ...system.errors import ModelError
from ..augment.tissues import (
    AROUND_BRAIN,
    FIRST_OUTSIDE,
    NECK_CODES,
    RIGHT_AS_LEFT,
    SIDES,
    VENTRICLES,
    WHITE,
)

# Voxels between the points of everything that is smooth.
STEP = 4
# How far a change of proportions reaches, mm.
_REACH = 5.0
_OTHER = {**SIDES, **RIGHT_AS_LEFT}


@dataclass(frozen=True, eq=False)
class Atlas:
    """A whole head in the conformed grid.

    Parameters
    ----------
    side : int
        Side of the field of view, voxels.
    dense : (X, Y, Z) uint8
        For each voxel of the head's box, and of a border of one voxel around it that is 0, the
        place of its code in ``codes``.
    corner : (3,) int
        Voxel of the map that is the first of ``dense``.
    codes : (K,) uint16
        Sorted; the first is 0. Holds codes that images may need beside those of the map.
    classes, swap : (K,) uint8
        Class of each code, and place of its counterpart on the other side.
    inside : (n, 3) int16
        Every eighth voxel of the brain proper: what is neither background nor the fluid around
        the brain.
    potentials : (3, C, C, C) float32
        Smoothed ventricles, brain and white matter; along the steepest gradient of each a
        displacement of 1 changes them by 1 mm.
    distance : (C, C, C) float32
        From the brain, mm.
    """

    side: int
    dense: np.ndarray
    corner: np.ndarray
    codes: np.ndarray
    classes: np.ndarray
    swap: np.ndarray
    inside: np.ndarray
    potentials: np.ndarray
    distance: np.ndarray

    @property
    def end(self) -> int:
        """Last row of the map (its second axis runs down) that holds anything."""
        return int(self.corner[1]) + self.dense.shape[1] - 2

    def places(self, codes: tuple[int, ...]) -> np.ndarray:
        """Return the places of those of some codes that there are, uint8."""
        return np.flatnonzero(np.isin(self.codes, codes)).astype(np.uint8)

    def among(self, codes: tuple[int, ...]) -> np.ndarray:
        """Return a bool for each place: whether its code is one of some."""
        return np.isin(self.codes, codes)

    @property
    def outside(self) -> np.ndarray:
        """A bool for each place: whether it lies outside the brain and its fluid."""
        return (self.codes == 0) | (self.codes >= FIRST_OUTSIDE)


def prepare(codes: np.ndarray, mapping: LabelMapping) -> Atlas:
    """Prepare a label map.

    Parameters
    ----------
    codes : (W, W, W) uint16
        aseg codes of a whole head, LIA, 1 mm; from 500 up whatever is outside the brain.
    mapping : LabelMapping
        Gives each code its class.

    Returns
    -------
    Atlas

    Raises
    ------
    ModelError
        For a map of too many codes.
    """
    table = _table(codes)
    if len(table) > 256:
        raise ModelError(
            f'a label map has {len(table)} codes, with those of the other side; expected at most '
            '256: merge some'
        )
    place = np.zeros(int(table.max()) + 1, np.uint8)
    place[table] = np.arange(len(table))
    classes = np.array([mapping.indices.get(int(code), 0) for code in table], np.uint8)
    brain = (table > 0) & (table < FIRST_OUTSIDE) & (table != AROUND_BRAIN)
    dense = lookup(place, codes)
    found = ndimage.find_objects((dense > 0).view(np.uint8))
    box = [(part.start, part.stop) for part in found[0]] if found else [(0, 1)] * 3
    head = np.pad(dense[tuple(slice(low, high) for low, high in box)], 1)
    inside = np.argwhere(lookup(brain & (classes > 0), dense[::2, ::2, ::2])) * 2
    return Atlas(
        side=codes.shape[0],
        dense=head,
        corner=np.array([low - 1 for low, _ in box]),
        codes=table,
        classes=classes,
        swap=place[[_OTHER.get(int(code), int(code)) for code in table]],
        inside=inside.astype(np.int16),
        potentials=_potentials(dense, table, brain),
        distance=_distance(_share(brain[dense])),
    )


def _table(codes: np.ndarray) -> np.ndarray:
    """Return the codes of a map, their counterparts, and those that images may need."""
    found = set(np.flatnonzero(histogram(codes)).tolist())
    more = {_OTHER[code] for code in found if code in _OTHER}
    return np.array(sorted({0, *found, *more, *NECK_CODES}), np.uint16)


def _share(mask: np.ndarray) -> np.ndarray:
    """Return the share of each block of ``STEP`` voxels that a mask covers."""
    full = [-(-n // STEP) * STEP for n in mask.shape]
    padded = np.zeros(full, np.float32)
    padded[tuple(slice(n) for n in mask.shape)] = mask
    x, y, z = (n // STEP for n in full)
    share: np.ndarray = padded.reshape(x, STEP, y, STEP, z, STEP).mean((1, 3, 5))
    return share


def _potentials(dense: np.ndarray, table: np.ndarray, brain: np.ndarray) -> np.ndarray:
    found = []
    for mask in (np.isin(table, VENTRICLES), brain, np.isin(table, WHITE)):
        smooth = ndimage.gaussian_filter(_share(mask[dense]), _REACH / STEP)
        steepest = np.sqrt(sum(g**2 for g in np.gradient(smooth, STEP))).max()
        found.append(smooth / max(float(steepest), 1e-6))
    return np.stack(found)


def _distance(share: np.ndarray) -> np.ndarray:
    if not (share > 0.5).any():
        return np.zeros_like(share)
    # Blocks that are half brain lie on its border.
    distance: np.ndarray = ndimage.distance_transform_edt(share <= 0.5) * STEP - STEP / 2
    return np.clip(distance, 0, None).astype(np.float32)

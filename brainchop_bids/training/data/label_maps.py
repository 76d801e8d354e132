"""Label maps prepared for the synthesis of many images from each.

A map takes one byte for each voxel of the head's box, so that a worker can hold twenty of them.
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

# Voxels between the points of coarse grids, on which everything smooth is computed.
STEP = 4
# Reach of a change of proportions, mm.
_REACH = 5.0
_OTHER = {**SIDES, **RIGHT_AS_LEFT}


@dataclass(frozen=True, eq=False)
class Atlas:
    """A label map of a whole head on the conformed grid.

    Parameters
    ----------
    side : int
        Side of the field of view, voxels.
    dense : (X, Y, Z) uint8
        Index in ``codes`` of each voxel of the head's box, with a border of one voxel of 0.
    corner : (3,) int
        Voxel of the map at which ``dense`` begins.
    codes : (K,) uint16
        Sorted codes, the first of which is 0: those of the map, and others that images may need.
    classes, swap : (K,) uint8
        Class of each code, and index of its counterpart on the other side.
    inside : (n, 3) int16
        Every eighth voxel of the brain, without the fluid around it.
    potentials : (3, C, C, C) float32
        Smoothed ventricles, brain and white matter, scaled to a steepest gradient of 1 per mm.
    distance : (C, C, C) float32
        Distance from the brain, mm.
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
        """Last row of the map (its second axis runs down) that is not empty."""
        return int(self.corner[1]) + self.dense.shape[1] - 2

    def indices(self, codes: tuple[int, ...]) -> np.ndarray:
        """Return the indices of those codes that are in the table, uint8."""
        return np.flatnonzero(np.isin(self.codes, codes)).astype(np.uint8)

    def matches(self, codes: tuple[int, ...]) -> np.ndarray:
        """Return for each entry of the table whether its code is one of some, (K,) bool."""
        return np.isin(self.codes, codes)

    @property
    def outside(self) -> np.ndarray:
        """Whether each entry of the table is outside brain and surrounding fluid, (K,) bool."""
        return (self.codes == 0) | (self.codes >= FIRST_OUTSIDE)


def build_atlas(codes: np.ndarray, mapping: LabelMapping) -> Atlas:
    """Prepare a label map for synthesis.

    Parameters
    ----------
    codes : (W, W, W) uint16
        aseg codes of a whole head, LIA, 1 mm; codes of 500 or more are outside the brain.
    mapping : LabelMapping
        Class of each code.

    Returns
    -------
    Atlas

    Raises
    ------
    ModelError
        If the map has too many codes.
    """
    table = _table(codes)
    if len(table) > 256:
        raise ModelError(
            f'a label map has {len(table)} codes, with those of the other side; expected at most '
            '256: merge some'
        )
    index = np.zeros(int(table.max()) + 1, np.uint8)
    index[table] = np.arange(len(table))
    classes = np.array([mapping.indices.get(int(code), 0) for code in table], np.uint8)
    brain = (table > 0) & (table < FIRST_OUTSIDE) & (table != AROUND_BRAIN)
    dense = lookup(index, codes)
    boxes = ndimage.find_objects((dense > 0).view(np.uint8))
    box = [(part.start, part.stop) for part in boxes[0]] if boxes else [(0, 1)] * 3
    head = np.pad(dense[tuple(slice(low, high) for low, high in box)], 1)
    inside = np.argwhere(lookup(brain & (classes > 0), dense[::2, ::2, ::2])) * 2
    return Atlas(
        side=codes.shape[0],
        dense=head,
        corner=np.array([low - 1 for low, _ in box]),
        codes=table,
        classes=classes,
        swap=index[[_OTHER.get(int(code), int(code)) for code in table]],
        inside=inside.astype(np.int16),
        potentials=_potentials(dense, table, brain),
        distance=_distance(_share(brain[dense])),
    )


def _table(codes: np.ndarray) -> np.ndarray:
    """Return the codes of a map, their counterparts, and codes that images may need, sorted."""
    present = set(np.flatnonzero(histogram(codes)).tolist())
    more = {_OTHER[code] for code in present if code in _OTHER}
    return np.array(sorted({0, *present, *more, *NECK_CODES}), np.uint16)


def _share(mask: np.ndarray) -> np.ndarray:
    """Return the share of each block of ``STEP`` voxels that a mask covers."""
    full = [-(-n // STEP) * STEP for n in mask.shape]
    padded = np.zeros(full, np.float32)
    padded[tuple(slice(n) for n in mask.shape)] = mask
    x, y, z = (n // STEP for n in full)
    share: np.ndarray = padded.reshape(x, STEP, y, STEP, z, STEP).mean((1, 3, 5))
    return share


def _potentials(dense: np.ndarray, table: np.ndarray, brain: np.ndarray) -> np.ndarray:
    potentials = []
    for mask in (np.isin(table, VENTRICLES), brain, np.isin(table, WHITE)):
        smooth = ndimage.gaussian_filter(_share(mask[dense]), _REACH / STEP)
        steepest = np.sqrt(sum(g**2 for g in np.gradient(smooth, STEP))).max()
        potentials.append(smooth / max(float(steepest), 1e-6))
    return np.stack(potentials)


def _distance(share: np.ndarray) -> np.ndarray:
    if not (share > 0.5).any():
        return np.zeros_like(share)
    # Blocks that are half brain are on its border.
    distance: np.ndarray = ndimage.distance_transform_edt(share <= 0.5) * STEP - STEP / 2
    return np.clip(distance, 0, None).astype(np.float32)

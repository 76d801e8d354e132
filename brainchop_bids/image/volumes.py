"""Volumes of labels."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..system.text import table_cell
from .cleanup import MaskRule
from .components import brain_mask
from .lookup import histogram


def label_volumes(labels: np.ndarray, voxel_volume: float) -> dict[int, tuple[int, float]]:
    """Count the voxels of every label that occurs, including background.

    Parameters
    ----------
    labels : (X, Y, Z) array of unsigned integers or bool
        Label map.
    voxel_volume : float
        Volume of one voxel in mm^3.

    Returns
    -------
    dict
        Label to (voxels, volume in mm^3), in ascending order of label.

    Examples
    --------
    >>> label_volumes(np.array([[[0, 2, 2]]], dtype=np.uint8), 0.5)
    {0: (1, 0.5), 2: (2, 1.0)}
    """
    counts = histogram(labels)
    return {
        int(label): (int(counts[label]), float(counts[label] * voxel_volume))
        for label in np.flatnonzero(counts)
    }


def intracranial_volume(
    labels: np.ndarray, zooms: Sequence[float] | np.ndarray, rule: MaskRule
) -> float:
    """Measure the volume of the brain and the fluid around it.

    Parameters
    ----------
    labels : (X, Y, Z) array of unsigned integers
        Label map, 0 is background; the fluid around the brain has a label.
    zooms : sequence of 3 float
        Voxel sizes in mm.
    rule : MaskRule
        Rule for the brain mask; its ``exclude`` is ignored.

    Returns
    -------
    float
        Volume of the `brain_mask` of all labels, in mm^3.

    Examples
    --------
    >>> labels = np.pad(np.full((2, 2, 2), 1, np.uint8), 1)
    >>> labels[1, 1, 1] = 2
    >>> intracranial_volume(labels, (1, 1, 2), MaskRule(exclude=(2,)))
    16.0
    """
    mask = brain_mask(labels, zooms, replace(rule, exclude=()))
    return int(np.count_nonzero(mask)) * math.prod(map(float, zooms))


def volumes_table(
    volumes: dict[int, tuple[int, float]],
    names: Mapping[int, str],
    confidence: Mapping[str, float] | None = None,
) -> str:
    """Return volumes as a table.

    Parameters
    ----------
    volumes : dict of int to (int, float)
        Volumes as returned by `label_volumes`.
    names : dict of int to str
        Names of the labels in the table, including labels without voxels.
    confidence : mapping of str to float, optional
        Confidence of labels by name, see `brainchop_bids.inference.confidence`.

    Returns
    -------
    str
        TSV with the columns index, name, voxels and volume (mm^3), and confidence if it is given.

    Examples
    --------
    >>> volumes_table({1: (8, 12.0)}, {1: 'White Matter'}).splitlines()
    ['index\\tname\\tvoxels\\tvolume', '1\\tWhite Matter\\t8\\t12.000']
    """
    lines = ['index\tname\tvoxels\tvolume' + '\tconfidence' * (confidence is not None)]
    for index, name in sorted(names.items()):
        voxels, volume = volumes.get(index, (0, 0.0))
        line = f'{index}\t{table_cell(name)}\t{voxels}\t{volume:.3f}'
        if confidence is not None:
            line += f'\t{confidence.get(name, "n/a")}'
        lines.append(line)
    return '\n'.join(lines) + '\n'

"""Agreement of two label maps on one grid."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..image.boxes import bounding_box
from ..image.components import fill_holes

NAN = float('nan')


@dataclass(frozen=True)
class Agreement:
    """Agreement of two masks; NaN for a measure that is undefined.

    Parameters
    ----------
    dice, jaccard : float
        Overlap, 0 to 1; NaN where both are empty.
    hausdorff95 : float
        95th percentile of the distances from each surface to the other, the larger of both, mm.
    surface_distance : float
        Mean distance over both surfaces, mm.
    volume_similarity : float
        ``1 - |P - R| / (P + R)`` of the volumes, 0 to 1.
    predicted, reference : float
        Volumes in mm^3.
    """

    dice: float
    jaccard: float
    hausdorff95: float
    surface_distance: float
    volume_similarity: float
    predicted: float
    reference: float

    @property
    def row(self) -> dict[str, Any]:
        """The measures by the names of a table's columns."""
        units = {
            'hausdorff95': 'hausdorff95_mm',
            'surface_distance': 'mean_surface_distance_mm',
            'predicted': 'predicted_mm3',
            'reference': 'reference_mm3',
        }
        return {units.get(key, key): value for key, value in asdict(self).items()}


def compare(
    predicted: np.ndarray,
    reference: np.ndarray,
    zooms: Sequence[float] | np.ndarray,
    labels: Sequence[int],
    *,
    surfaces: bool = True,
) -> Iterator[tuple[int | None, Agreement]]:
    """Compare two label maps label by label.

    Parameters
    ----------
    predicted, reference : (X, Y, Z) unsigned integers
        Label maps of the same grid.
    zooms : sequence of 3 float
        Voxel size in mm.
    labels : sequence of int
        Labels to compare.
    surfaces : bool
        Whether to measure distances, which takes most of the time.

    Yields
    ------
    label : int or None
        None stands for all labels together, filled: the brain.
    agreement : Agreement

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if predicted.shape != reference.shape:
        raise ValueError(f'shapes differ: {predicted.shape} and {reference.shape}')
    for label in labels:
        yield label, agreement(predicted == label, reference == label, zooms, surfaces=surfaces)
    brains = [fill_holes(np.isin(array, labels)) for array in (predicted, reference)]
    yield None, agreement(brains[0], brains[1], zooms, surfaces=surfaces)


def agreement(
    predicted: np.ndarray,
    reference: np.ndarray,
    zooms: Sequence[float] | np.ndarray,
    *,
    surfaces: bool = True,
) -> Agreement:
    """Compare two masks.

    Distances are those of DeepMind's ``surface-distance``, which weighs each piece of surface by
    its area (Nikolov et al. 2021, doi:10.2196/26151).

    Parameters
    ----------
    predicted, reference : (X, Y, Z) bool
        Masks of the same grid.
    zooms : sequence of 3 float
        Voxel size in mm.
    surfaces : bool
        Whether to measure distances.

    Returns
    -------
    Agreement
    """
    voxel = float(np.prod(zooms))
    p, r = int(np.count_nonzero(predicted)), int(np.count_nonzero(reference))
    both = int(np.count_nonzero(predicted & reference))
    any_of_both = p + r - both
    distances = _distances(predicted, reference, zooms) if surfaces and p and r else (NAN, NAN)
    return Agreement(
        dice=2 * both / (p + r) if p + r else NAN,
        jaccard=both / any_of_both if any_of_both else NAN,
        hausdorff95=distances[0],
        surface_distance=distances[1],
        volume_similarity=1 - abs(p - r) / (p + r) if p + r else NAN,
        predicted=p * voxel,
        reference=r * voxel,
    )


def _distances(
    predicted: np.ndarray, reference: np.ndarray, zooms: Sequence[float] | np.ndarray
) -> tuple[float, float]:
    import surface_distance as library

    # Only the part of the volume that holds both matters, and the library's own cropping makes
    # copies of the whole first.
    box = bounding_box(predicted | reference)
    distances = library.compute_surface_distances(
        reference[box], predicted[box], [float(size) for size in zooms]
    )
    areas = distances['surfel_areas_gt'], distances['surfel_areas_pred']
    lengths = distances['distances_gt_to_pred'], distances['distances_pred_to_gt']
    mean = sum(float((d * a).sum()) for d, a in zip(lengths, areas, strict=True)) / sum(
        float(a.sum()) for a in areas
    )
    return float(library.compute_robust_hausdorff(distances, 95)), mean

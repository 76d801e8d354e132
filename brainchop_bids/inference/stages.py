"""The steps of a scan before and after the network, one function for each.

The nodes of `brainchop_bids.interfaces` and `brainchop_bids.inference.scan.segment_scan` call the
same functions, so that a pipeline and the command for one file give the same images.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..image.channels import conform_to_grid
from ..image.cleanup import Cleanup, MaskRule
from ..image.components import Removed, clean_labels, keep_components
from ..image.conform import Conformed, ConformOptions, conform
from ..image.geometry import Geometry
from ..image.io import Volume, read_geometry, read_volume, require_contrast
from ..image.resample import image_to_grid
from ..image.volumes import intracranial_volume, label_volumes, volumes_table


@dataclass(frozen=True)
class Cleaned:
    """Labels after clean-up.

    Parameters
    ----------
    labels : (X, Y, Z) array
        Labels that stayed.
    mask : (X, Y, Z) uint8 array or None
        Brain mask, where one was asked for.
    removed : Removed
        Numbers of components and voxels that were removed.
    intracranial_mm3 : float or None
        Intracranial volume in mm^3, where it was asked for.
    """

    labels: np.ndarray
    mask: np.ndarray | None
    removed: Removed
    intracranial_mm3: float | None = None


def read_scan(path: str | Path, frame: int | None = None) -> Volume:
    """Read a scan that can be segmented.

    Parameters
    ----------
    path : str or Path
        NIfTI-1/2, Analyze or MGH/MGZ.
    frame : int, optional
        Frame of a file with several, counted from 0.

    Returns
    -------
    Volume

    Raises
    ------
    InputError
        If it cannot be read, or all its voxels are equal.
    """
    volume = read_volume(path, frame=frame)
    require_contrast(volume)
    return volume


def conform_scan(
    volume: Volume,
    options: ConformOptions | None = None,
    *,
    reference: str | Path | None = None,
    threads: int = 1,
) -> Conformed:
    """Conform a scan as FreeSurfer's ``mri_convert -c`` does, or onto the grid of another one.

    Parameters
    ----------
    volume : Volume
        The scan.
    options : ConformOptions, optional
        Target grid and interpolation.
    reference : str or Path, optional
        Conformed scan of the same head whose grid is taken, by the headers of both.
    threads : int
        Planes resliced at once.

    Returns
    -------
    Conformed

    Raises
    ------
    InputError
        If the field of view is impossible, or the scan has nothing where the reference lies.
    """
    options = options or ConformOptions()
    if reference is None:
        return conform(volume, options, threads=threads)
    grid, _ = read_geometry(reference)
    return conform_to_grid(volume, grid, reference, options, threads=threads)


def clean_up(
    labels: np.ndarray,
    zooms: Sequence[float] | np.ndarray,
    components: Cleanup | str,
    mask_rule: MaskRule,
    *,
    mask: bool = True,
    intracranial: bool = False,
) -> Cleaned:
    """Remove components of labels by a rule, make the brain mask, measure inside the skull.

    Parameters
    ----------
    labels : (X, Y, Z) array
        Labels of the network.
    zooms : sequence of 3 float
        Voxel sizes in mm.
    components : Cleanup or str
        Components that stay.
    mask_rule : MaskRule
        How the brain mask is made of the labels.
    mask : bool
        Whether a brain mask is made; without one nothing is filled or closed, which is quicker.
    intracranial : bool
        Whether the intracranial volume is measured.

    Returns
    -------
    Cleaned
    """
    rule = components if isinstance(components, Cleanup) else Cleanup.parse(components)
    brain: np.ndarray | None = None
    if mask or rule.within_mm:
        kept, brain, removed = clean_labels(labels, rule, mask_rule, zooms=zooms)
    else:
        kept, removed = keep_components(labels, rule, zooms=zooms)
    volume = round(intracranial_volume(kept, zooms, mask_rule), 3) if intracranial else None
    return Cleaned(kept, brain, removed, volume)


def probabilities_to_grid(
    probabilities: Any, source: Geometry, target: Geometry
) -> Iterator[np.ndarray]:
    """Resample class probabilities; outside the field of the source all is background.

    Parameters
    ----------
    probabilities : (X, Y, Z, classes) float32 array, or one by its slices
        Probabilities; class 0 is the background.
    source, target : Geometry
        Their grid, and the wanted one.

    Yields
    ------
    float32 array
        In the target's grid, class by class. They sum to 1 everywhere.
    """
    for index in range(probabilities.shape[3]):
        outside = np.float32(index == 0)
        inside = np.asarray(probabilities[..., index]) - outside
        yield image_to_grid(inside, source, target) + outside


def tabulate_volumes(
    labels: np.ndarray, geometry: Geometry, names: Mapping[int, str]
) -> tuple[str, dict[int, tuple[int, float]]]:
    """Measure the volume of each label.

    Parameters
    ----------
    labels : (X, Y, Z) array
        Labels.
    geometry : Geometry
        Their grid.
    names : mapping of int to str
        Names of the labels by value.

    Returns
    -------
    table : str
        TSV of index, name, voxels and volume in mm^3.
    volumes : dict
        As `label_volumes` gives them.
    """
    volumes = label_volumes(labels, geometry.voxel_volume)
    return volumes_table(volumes, names), volumes


def strip_skull(data: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Set a scan to 0 outside its brain mask.

    Parameters
    ----------
    data, mask : (X, Y, Z) array
        The scan and its mask, in one grid.

    Returns
    -------
    (X, Y, Z) array
        Of the scan's dtype.
    """
    return data * (mask != 0)

"""The steps of a scan before and after the network, one function for each.

The interfaces in `brainchop_bids.interfaces` and `brainchop_bids.inference.scan.segment_scan` call
the same functions, so that workflows and ``brainchop-segment`` give the same images.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..image.background import void_mask
from ..image.channels import conform_to_grid
from ..image.cleanup import Cleanup, MaskRule
from ..image.components import Removed, clean_labels, keep_components
from ..image.conform import Conformed, ConformOptions, conform
from ..image.dicom import as_nifti
from ..image.extent import check_field_of_view
from ..image.geometry import Geometry
from ..image.io import Volume, read_geometry, read_volume, require_contrast
from ..image.resample import image_to_grid
from ..image.stored import scan_header
from ..image.volumes import intracranial_volume, label_volumes, volumes_table
from ..system.resources import Granted, available_memory
from .memory import check_conform_memory

# Share of the labels in empty background that is worth a line; tissue at its edge is less.
_MOST_EMPTY = 0.01


@dataclass(frozen=True)
class Cleaned:
    """Labels after clean-up.

    Parameters
    ----------
    labels : (X, Y, Z) array
        Labels that were kept.
    mask : (X, Y, Z) uint8 array or None
        Brain mask, if it was asked for.
    removed : Removed
        Numbers of components and voxels that were removed.
    intracranial_mm3 : float or None
        Intracranial volume in mm^3, if it was asked for.
    """

    labels: np.ndarray
    mask: np.ndarray | None
    removed: Removed
    intracranial_mm3: float | None = None


def read_scan(
    path: str | Path,
    frame: int | None = None,
    *,
    options: ConformOptions | None = None,
    memory: Granted | None = None,
) -> Volume:
    """Read a scan and check that it can be segmented, as far as possible by its header.

    Parameters
    ----------
    path : str or Path
        NIfTI-1/2, Analyze or MGH/MGZ, or a DICOM series, see `as_nifti`.
    frame : int, optional
        Frame of a 4-D file, counted from 0.
    options : ConformOptions, optional
        Grid to which it will be conformed.
    memory : Granted, optional
        Memory that may be used, GB; by default as much as the machine grants.

    Returns
    -------
    Volume

    Raises
    ------
    InputError
        If it cannot be read, its field of view is not that of a head, or all voxels have the
        same value.
    MemoryLimitError
        If reading and conforming it takes more memory.
    """
    with as_nifti(Path(path)) as file:
        header = scan_header(file, frame)
        check_field_of_view(path, header.geometry, header.raw)
        granted = memory or available_memory()
        check_conform_memory(path, header, options or ConformOptions(), granted)
        volume = replace(read_volume(file, frame=frame), path=Path(path))
    require_contrast(volume)
    return volume


def conform_scan(
    volume: Volume,
    options: ConformOptions | None = None,
    *,
    reference: str | Path | None = None,
    organ: Geometry | None = None,
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
        Conformed scan of the same head whose grid is used; both are aligned by their headers.
    organ : Geometry, optional
        As for `brainchop_bids.image.conform.conform`.
    threads : int
        Number of threads.

    Returns
    -------
    Conformed

    Raises
    ------
    InputError
        If the field of view is invalid, or does not overlap that of the reference.
    """
    options = options or ConformOptions()
    if reference is None:
        return conform(volume, options, organ=organ, threads=threads)
    grid, _ = read_geometry(reference)
    return conform_to_grid(volume, grid, reference, options, threads=threads)


def remove_from_void(labels: np.ndarray, conformed: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Remove labels from the empty background of a conformed scan.

    Single voxels of 0 stay, since conforming rounds dark voxels to 0.

    Parameters
    ----------
    labels : (X, Y, Z) array of unsigned integers
        Labels of the network.
    conformed : (X, Y, Z) uint8
        The conformed scan.

    Returns
    -------
    labels : (X, Y, Z) array
        Labels that are 0 in empty background.
    notes : list of str
        One line if it was more than a hundredth of the labels.
    """
    labelled = labels != 0
    if not (labelled & (conformed == 0)).any():
        return labels, []
    wrong = labelled & void_mask(conformed)
    share = int(np.count_nonzero(wrong)) / int(np.count_nonzero(labelled))
    note = (
        f'{share:.0%} of the labels lay in empty background, where the scan is 0, and were '
        'removed; is it a T1w scan of a head?'
    )
    return np.where(wrong, labels.dtype.type(0), labels), [note] * (share > _MOST_EMPTY)


def clean_up(
    labels: np.ndarray,
    zooms: Sequence[float] | np.ndarray,
    components: Cleanup | str,
    mask_rule: MaskRule,
    *,
    mask: bool = True,
    intracranial: bool = False,
) -> Cleaned:
    """Remove components of labels by a rule, make the brain mask, measure intracranial volume.

    Parameters
    ----------
    labels : (X, Y, Z) array
        Labels of the network.
    zooms : sequence of 3 float
        Voxel sizes in mm.
    components : Cleanup or str
        Rule for connected components.
    mask_rule : MaskRule
        Rule for the brain mask.
    mask : bool
        Make a brain mask; it is faster without one.
    intracranial : bool
        Measure the intracranial volume.

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
    """Resample class probabilities; outside the source's field of view, background is 1.

    Parameters
    ----------
    probabilities : (X, Y, Z, classes) float32 array or array-like
        Probabilities, e.g. the ``dataobj`` of an image; class 0 is background.
    source, target : Geometry
        Grid of the probabilities, and grid of the result.

    Yields
    ------
    float32 array
        Probabilities of each class in turn, in the target's grid. They sum to 1 everywhere.
    """
    for index in range(probabilities.shape[3]):
        outside = np.float32(index == 0)
        inside = np.asarray(probabilities[..., index]) - outside
        yield image_to_grid(inside, source, target) + outside


def tabulate_volumes(
    labels: np.ndarray,
    geometry: Geometry,
    names: Mapping[int, str],
    confidence: Mapping[str, float] | None = None,
) -> tuple[str, dict[int, tuple[int, float]]]:
    """Measure the volume of each label.

    Parameters
    ----------
    labels : (X, Y, Z) array
        Label map.
    geometry : Geometry
        Grid of the label map.
    names : mapping of int to str
        Names of the labels, by value.
    confidence : mapping of str to float, optional
        Confidence of labels by name, see `brainchop_bids.inference.confidence`.

    Returns
    -------
    table : str
        TSV of index, name, voxels, volume in mm^3, and confidence if it is given.
    volumes : dict
        Volumes as `label_volumes` returns them.
    """
    volumes = label_volumes(labels, geometry.voxel_volume)
    return volumes_table(volumes, names, confidence), volumes


def strip_skull(data: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Set a scan to 0 outside its brain mask.

    Parameters
    ----------
    data, mask : (X, Y, Z) array
        The scan and its mask, on the same grid.

    Returns
    -------
    (X, Y, Z) array
        The stripped scan, with the dtype of the scan.
    """
    return data * (mask != 0)

"""Single steps in Python: conforming, finding the brain, scoring."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from ..evaluation.pairs import align
from ..evaluation.scores import score
from ..image.conform import ConformOptions
from ..image.conform import conform as conform_volume
from ..image.io import nifti_image
from ..inference.localise.localisation import load_localiser
from ..inference.localise.report import Finding, find_organ
from ..models import DEFAULT_LOCALISER
from ..models.mapping import read_mapping
from ..models.zoo import find_model
from ..system.resources import available_cpus
from .given import Image, volume_of


def conform(
    image: Image,
    affine: np.ndarray | None = None,
    *,
    options: ConformOptions | None = None,
    frame: int | None = None,
    threads: int | None = None,
) -> nib.Nifti1Image:
    """Conform a scan as FreeSurfer's ``mri_convert -c`` does.

    Unlike `nibabel.processing.conform`, which interpolates with splines and keeps the intensity
    range, it scales intensities to uint8 and chooses the grid as FreeSurfer does.

    Parameters
    ----------
    image, affine
        As for `brainchop_bids.segment`.
    options : ConformOptions, optional
        Target grid and interpolation; by default those of ``mri_convert -c``.
    frame : int, optional
        Volume of a 4-D image, counted from 0.
    threads : int, optional
        Number of threads; by default as many as this process is granted.

    Returns
    -------
    nibabel.Nifti1Image
        uint8, 256 voxels of 1 mm a side by default, in LIA orientation.

    Raises
    ------
    InputError
        If the scan cannot be read, is not a scalar 3-D volume with a valid position, or has
        several frames and none was selected.

    Examples
    --------
    >>> import nibabel as nib
    >>> import numpy as np
    >>> import brainchop_bids as bc
    >>> conformed = bc.conform(np.full((8, 8, 8), 7, np.uint8), np.diag([2.0, 2, 2, 1]))
    >>> conformed.shape, nib.aff2axcodes(conformed.affine), int(conformed.dataobj[128, 128, 128])
    ((256, 256, 256), ('L', 'I', 'A'), 7)
    """
    volume = volume_of(image, affine, frame)
    result = conform_volume(volume, options or ConformOptions(), threads=_threads(threads))
    return nifti_image(result.data, affine=result.affine)


def localise(
    image: Image,
    affine: np.ndarray | None = None,
    model: str | Path = DEFAULT_LOCALISER,
    *,
    models_dir: str | Path | None = None,
    frame: int | None = None,
    ct: bool = False,
    threads: int | None = None,
) -> Finding:
    """Find the brain, or the organ of another model, in a scan of any field of view and contrast.

    Parameters
    ----------
    image, affine
        As for `brainchop_bids.segment`.
    model : str or path
        Name or folder of the localiser, which is loaded once in a process.
    models_dir : path, optional
        Folder that contains model folders.
    frame : int, optional
        Volume of a 4-D scan, counted from 0.
    ct : bool
        Whether intensities are Hounsfield units.
    threads : int, optional
        Number of threads; by default as many as this process is granted.

    Returns
    -------
    Finding
        Its ``box`` (voxels) and ``box_mm`` are None if nothing was found.

    Raises
    ------
    BrainchopError
        If the scan cannot be read, or the model is no localiser.

    Examples
    --------
    >>> import numpy as np
    >>> import brainchop_bids as bc
    >>> noise = np.random.default_rng(0).random((64, 64, 64))
    >>> bc.localise(noise, np.diag([4, 4, 4, 1])).box is None
    True
    """
    localiser, _ = load_localiser(find_model(model, models_dir), _threads(threads))
    return find_organ(volume_of(image, affine, frame), localiser, ct=ct)


def evaluate(
    predicted: Image,
    reference: Image,
    *,
    affine: np.ndarray | None = None,
    mapping: str | Path | None = None,
    pred_mapping: str | Path | None = None,
    surfaces: bool = True,
) -> list[dict[str, Any]]:
    """Score a segmentation against a reference, label by label and for the whole brain.

    Parameters
    ----------
    predicted, reference : path, nibabel image or array
        Label maps. If they differ in their grids, the first one is resampled to that of the other.
    affine : (4, 4) array, optional
        Voxel index to RAS+ mm, of those that are arrays.
    mapping, pred_mapping : str or path, optional
        Tables from codes of the reference and of the segmentation to labels, see `read_mapping`.
    surfaces : bool
        Whether to measure distances, which takes most of the time.

    Returns
    -------
    list of dict
        The rows that ``brainchop-evaluate --out`` writes; measures that are undefined are NaN.

    Raises
    ------
    BrainchopError
        If an image is no label map, or the two do not overlap in space.

    Examples
    --------
    >>> import numpy as np
    >>> import brainchop_bids as bc
    >>> labels = np.zeros((8, 8, 8), np.uint8)
    >>> labels[2:6, 2:6, 2:6] = 1
    >>> rows = bc.evaluate(labels, np.roll(labels, 1, 0), affine=np.eye(4))
    >>> [(row['name'], row['dice']) for row in rows]
    [('1', 0.75), ('brain', 0.75)]
    """
    ours, theirs = (
        volume_of(image, affine if isinstance(image, np.ndarray) else None)
        for image in (predicted, reference)
    )
    mappings = [None if name is None else read_mapping(name) for name in (pred_mapping, mapping)]
    pair = align(ours, theirs, mappings[0], mappings[1])
    return score(str(ours.path), pair, mappings, surfaces=surfaces)


def _threads(wanted: int | None) -> int:
    granted = int(available_cpus().amount)
    return min(wanted or granted, granted)

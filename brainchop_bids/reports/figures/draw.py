"""Figures of a page, drawn while a scan is processed or later from its derivatives."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from ...bids.derivatives import UNCERTAINTY, ScanOutputs, figure_kind
from ...image.io import Volume, load_labels, read_geometry, read_volume
from ...image.resample import image_to_grid, labels_to_grid
from ...system.atomic import bytes_writer, publish
from ...system.errors import BrainchopError
from ..records import ScanRecord
from ..sidecars import number
from .conform_check import draw_conform_check
from .mosaic import Colors, compose_mosaic
from .slices import slice_labels, slice_scan


def draw_scan(scan: Volume | None, conformed: Path) -> dict[str, bytes]:
    """Draw the figures of a scan that belong to no model.

    Parameters
    ----------
    scan : Volume or None
        The original scan; without it the picture of conforming is left out.
    conformed : Path
        The conformed scan.

    Returns
    -------
    dict of str to bytes
        Files by their names in `FIGURES`.

    Raises
    ------
    InputError
        If the conformed scan cannot be read.
    """
    image, grid = load_labels(conformed)
    slices, picture = slice_scan(image, grid.affine)
    drawn = {'grid': json.dumps(slices.to_dict()).encode(), 'slices': picture}
    if scan is not None:
        drawn['conform'] = _webp(draw_conform_check(scan.data, scan.geometry, grid), 60)
    return drawn


def draw_labels(
    conformed: Path,
    labels: Path,
    mask: Path | np.ndarray | None,
    colors: Colors,
    uncertainty: Path | np.ndarray | None = None,
) -> dict[str, bytes]:
    """Draw the figures of a model's labels.

    Parameters
    ----------
    conformed, labels : Path
        The conformed scan and labels in its grid.
    mask : Path or ndarray of integer, shape (X, Y, Z), or None
        The brain mask in that grid; labels above 0 by default.
    colors : dict of int to (r, g, b)
        Colour of each label.
    uncertainty : Path or ndarray of float32, shape (X, Y, Z), optional
        Entropy in that grid, nats.

    Returns
    -------
    dict of str to bytes
        Files by their names in `FIGURES`.

    Raises
    ------
    InputError
        If a file cannot be read.
    """
    image, grid = load_labels(conformed)
    segmentation = load_labels(labels)[0]
    brain = load_labels(mask)[0] if isinstance(mask, Path) else mask
    if isinstance(uncertainty, Path):
        uncertainty = read_volume(uncertainty).data
    mosaic = compose_mosaic(
        image,
        segmentation,
        colors,
        mask=brain,
        uncertainty=uncertainty,
        voxel_size=float(grid.zooms[0]),
    )
    more = {} if mosaic.uncertainty is None else {UNCERTAINTY: _webp(mosaic.uncertainty)}
    return {
        **more,
        'cuts': _webp(mosaic.scan, 50),
        'labels': _webp(mosaic.labels),
        'outline': _webp(mosaic.outline),
        'volume': slice_labels(image, segmentation),
    }


def draw_missing(bids_dir: Path, record: ScanRecord) -> str | None:
    """Draw the figures of a result that are missing, from the derivatives alone.

    Parameters
    ----------
    bids_dir : Path
        The raw dataset; where it is missing, the picture of the original scan is left out.
    record : ScanRecord
        The result.

    Returns
    -------
    str or None
        The reason in one line if they could not be drawn.

    Raises
    ------
    OutputError
        If a figure cannot be written.
    """
    outputs = record.outputs
    missing = record.expected_figures.keys() - record.figures.keys()
    drawn: dict[str, bytes] = {}
    try:
        if any(not figure_kind(name).of_model for name in missing):
            drawn |= draw_scan(_source(bids_dir, record), outputs.preproc)
        if any(figure_kind(name).of_model for name in missing):
            colors = {
                index: tuple(bytes.fromhex(label.color[1:]))
                for index, label in record.labels.items()
                if label.color
            }
            mask = _conformed_mask(outputs)
            entropy = _conformed_entropy(outputs) if UNCERTAINTY in missing else None
            drawn |= draw_labels(outputs.preproc, outputs.dseg_conform, mask, colors, entropy)
    except BrainchopError as error:
        return f'{record.bids_name}: figures cannot be drawn: {error}'
    names = sorted(missing & drawn.keys())
    publish([(outputs.figure(name), bytes_writer(drawn[name])) for name in names])
    return None


def _source(bids_dir: Path, record: ScanRecord) -> Volume | None:
    """Read the scan that the sidecar names; None where it is not in the dataset."""
    path = bids_dir / record.source
    if not record.source or '..' in path.parts or not path.is_relative_to(bids_dir):
        return None
    frame = number(record.table('Brainchop', 'Settings').get('frame'))
    try:
        return read_volume(path, frame=None if frame is None else int(frame))
    except BrainchopError:
        return None


def _conformed_mask(outputs: ScanOutputs) -> np.ndarray | None:
    """Resample the brain mask from the scan's own grid to the conformed one."""
    if not outputs.mask.exists():
        return None
    mask, own = load_labels(outputs.mask)
    conformed, _ = read_geometry(outputs.preproc)
    return labels_to_grid(mask, own, conformed, method='nearest')


def _conformed_entropy(outputs: ScanOutputs) -> np.ndarray | None:
    """Resample the entropy from the scan's own grid to the conformed one."""
    path = outputs.uncertainty('entropy')
    if not path.exists():
        return None
    entropy = read_volume(path)
    return image_to_grid(entropy.data, entropy.geometry, read_geometry(outputs.preproc)[0])


def _webp(picture: Image.Image, quality: int | None = None) -> bytes:
    """Encode a picture, lossless by default."""
    buffer = io.BytesIO()
    if quality is None:
        picture.save(buffer, format='WEBP', lossless=True, quality=20, method=1)
    else:
        picture.save(buffer, format='WEBP', quality=quality, method=2)
    return buffer.getvalue()

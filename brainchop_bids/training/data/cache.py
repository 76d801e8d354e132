"""Conformed scans with their labels, made once and kept between runs."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...bids.dataset import check_writable
from ...image.channels import conform_channels
from ...image.conform import ConformOptions
from ...image.geometry import Geometry
from ...image.io import load_labels, read_volume, require_contrast
from ...image.lookup import histogram
from ...image.resample import labels_to_grid
from ...models.labels import LabelTable, lateral_pairs, side
from ...models.mapping import LabelMapping
from ...system.atomic import Writer, publish, sha256
from ...system.errors import InputError, OutputError, SettingsError
from ..options import Data
from .alignment import placement, why_apart
from .datasets import Example

# To be raised whenever the same files would give other arrays than before.
_FORM = 1

Arrays = tuple[np.ndarray, np.ndarray]


def load_example(
    example: Example, data: Data, mapping: LabelMapping, cache: Path | None = None
) -> Arrays:
    """Read an example, its scans conformed as they are for inference.

    Parameters
    ----------
    example : Example
        The files.
    data : Data
        Names the channels.
    mapping : LabelMapping
        Must know each code.
    cache : Path, optional
        Folder that keeps what was made, see `open_cache`. One that cannot be written to changes
        nothing but the time it takes.

    Returns
    -------
    images : (W, W, W, C) uint8
        LIA, on the grid of the conformed first channel; read-only.
    labels : (W, W, W) uint16
        Codes there, by nearest neighbours; read-only.

    Raises
    ------
    InputError
        Where a file cannot be read, labels do not lie on the scan, or none is of a class.
    ModelError
        For codes that the table does not have.
    SettingsError
        Where the example has not one image for each channel.
    """
    if len(example.images) != len(data.channels):
        raise SettingsError(
            f'{example.name}: has {len(example.images)} images; expected one for each of '
            f'{", ".join(data.channels)}'
        )
    files = _files(cache, _key(example)) if cache is not None else None
    arrays = _kept(files) if files else None
    if arrays is None:
        arrays = _made(example, mapping)
        if files:
            arrays = _keep(files, arrays)
    else:
        # What was made may have been made for another table.
        mapping.check(arrays[1], example.labels)
        _require_labels(arrays[1], mapping, example)
    for array in arrays:
        array.flags.writeable = False
    return arrays


def open_cache(data: Data) -> tuple[Path | None, str]:
    """Return where conformed volumes are kept, and what speaks against it.

    Parameters
    ----------
    data : Data
        Its ``cache`` is the folder; else it is ``brainchop-bids/training`` in
        ``$XDG_CACHE_HOME`` or ``~/.cache``.

    Returns
    -------
    folder : Path or None
        Made where it was not there; None where it cannot be written to.
    warning : str
        One line that says why not, else empty.
    """
    base = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    given = data.cache or os.path.join(base, 'brainchop-bids', 'training')
    # Path.expanduser would raise where there is no home.
    folder = Path(os.path.expanduser(given))
    try:
        check_writable(folder)
    except OutputError as error:
        return None, f'conformed volumes are not kept between runs (data.cache): {error}'
    return folder, ''


def codes_on_grid(codes: np.ndarray, source: Geometry, target: Geometry) -> np.ndarray:
    """Bring a label map's codes to a grid by nearest neighbours.

    Parameters
    ----------
    codes : (X, Y, Z) array
        Codes of at most 65535.
    source, target : Geometry
        The two grids.

    Returns
    -------
    uint16 array of ``target.shape``
        In C order.
    """
    moved = labels_to_grid(codes.astype(np.uint16), source, target, method='nearest')
    return np.ascontiguousarray(moved)


def side_pairs(labels: LabelTable) -> list[tuple[int, int]]:
    """Return the classes that change places when an image is mirrored left to right.

    Parameters
    ----------
    labels : LabelTable
        Of the model that is trained: its card's.

    Returns
    -------
    list of (int, int)
        Left and right, as the names have it.

    Raises
    ------
    SettingsError
        For a class of one side that has no other: mirrored it would be a wrong label.

    Examples
    --------
    >>> names = ['background', 'Left-Caudate', 'Right-Caudate', 'CSF']
    >>> side_pairs(LabelTable.from_names(names))
    [(1, 2)]
    """
    names = {label.index: label.name for label in labels}
    pairs = lateral_pairs(names)
    paired = {label for pair in pairs for label in pair}
    lone = [name for label, name in names.items() if side(name) and label not in paired]
    if lone:
        raise SettingsError(
            f'label {", ".join(lone)} has no counterpart on the other side, so images cannot be '
            'mirrored; train without flips'
        )
    return pairs


def _made(example: Example, mapping: LabelMapping) -> Arrays:
    volumes = [read_volume(path) for path in example.images]
    for volume in volumes:
        require_contrast(volume)
    codes, geometry = load_labels(example.labels)
    mapping.check(codes, example.labels)
    scan = volumes[0].geometry
    if not placement(geometry, scan):
        raise InputError(
            f'{example.labels}: does not lie on {example.images[0]}: {why_apart(geometry, scan)}'
        )
    conformed, images = conform_channels(volumes, ConformOptions())
    labels = codes_on_grid(codes, geometry, conformed.geometry)
    _require_labels(labels, mapping, example)
    images = np.ascontiguousarray(images.reshape(*labels.shape, len(volumes)))
    return images, labels


def _require_labels(labels: np.ndarray, mapping: LabelMapping, example: Example) -> None:
    found = np.flatnonzero(histogram(labels)).tolist()
    if not any(mapping.indices[code] for code in found):
        raise InputError(
            f'{example.labels}: every voxel is background by the table {mapping.name}; is it the '
            f'label map of {example.images[0]}?'
        )


def _key(example: Example) -> str:
    """Return what the arrays depend on as a hash: content of the files, not their names."""
    content = []
    for path in (*example.images, example.labels):
        names = [path]
        if path.suffix.lower() == '.hdr':
            names = sorted(path.parent.glob(f'{path.stem}.*'))
        try:
            # How a file is read depends on its kind.
            content.append([(''.join(name.suffixes), sha256(name)) for name in names])
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise InputError(
                f'{path}: cannot be read ({reason}); check that it is there'
            ) from error
    facts = json.dumps([_FORM, ConformOptions().to_dict(), content])
    return hashlib.sha256(facts.encode()).hexdigest()


def _files(folder: Path, key: str) -> tuple[Path, Path, Path]:
    """Return where images, labels and the sums of both are kept."""
    names = (f'{key}_images.npy', f'{key}_labels.npy', f'{key}.sha256')
    images, labels, sums = (folder / name for name in names)
    return images, labels, sums


def _kept(files: tuple[Path, Path, Path]) -> Arrays | None:
    """Return what is kept, or None where it is not there or damaged."""
    images, labels, sums = files
    try:
        if sums.read_text(encoding='utf-8') != _sums([images, labels]):
            return None
        return np.load(images, mmap_mode='r'), np.load(labels, mmap_mode='r')
    except (OSError, ValueError):
        return None


def _keep(files: tuple[Path, Path, Path], arrays: Arrays) -> Arrays:
    """Write what was made and return it as it is read again, in memory that workers share."""
    written: list[Path] = []

    def saving(array: np.ndarray) -> Writer:
        def write(path: Path) -> None:
            np.save(path, array)
            written.append(path)

        return write

    writers = [*map(saving, arrays), lambda path: path.write_text(_sums(written), 'utf-8')]
    try:
        publish(list(zip(files, writers, strict=True)))
    except OutputError:
        return arrays
    return _kept(files) or arrays


def _sums(files: Sequence[Path]) -> str:
    return ''.join(f'{sha256(path)}\n' for path in files)

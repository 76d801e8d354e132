"""A cache of conformed scans and their labels, kept between runs."""

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
from ...models.labels import LabelTable
from ...models.mapping import LabelMapping
from ...models.sides import lateral_pairs, side
from ...system.atomic import Writer, publish, sha256
from ...system.errors import InputError, OutputError, SettingsError
from ..options import DataOptions
from .alignment import describe_misalignment, matching_grid
from .datasets import Example

# To be increased when the same files give other arrays than before.
_VERSION = 1

Arrays = tuple[np.ndarray, np.ndarray]


def load_example(
    example: Example, data: DataOptions, mapping: LabelMapping, cache: Path | None = None
) -> Arrays:
    """Read an example, and conform its scans as for inference.

    Parameters
    ----------
    example : Example
        Its files.
    data : DataOptions
        Names of the channels.
    mapping : LabelMapping
        Table of codes, which must have all codes of the label map.
    cache : Path, optional
        Folder from `open_cache`. Errors on writing to it are ignored.

    Returns
    -------
    images : (W, W, W, C) uint8
        LIA, on the grid of the conformed first channel; read-only.
    labels : (W, W, W) uint16
        Codes on this grid, by nearest neighbours; read-only.

    Raises
    ------
    InputError
        If a file cannot be read, the labels are not aligned with the scan, or all voxels are
        background.
    ModelError
        If the table lacks a code.
    SettingsError
        If the number of images is not that of the channels.
    """
    if len(example.images) != len(data.channels):
        raise SettingsError(
            f'{example.name}: has {len(example.images)} images; expected one for each of '
            f'{", ".join(data.channels)}'
        )
    files = _files(cache, _key(example)) if cache is not None else None
    arrays = _read(files) if files else None
    if arrays is None:
        arrays = _conform(example, mapping)
        if files:
            arrays = _write(files, arrays)
    else:
        # The cache does not depend on the table.
        mapping.check(arrays[1], example.labels)
        _require_labels(arrays[1], mapping, example)
    for array in arrays:
        array.flags.writeable = False
    return arrays


def open_cache(data: DataOptions) -> tuple[Path | None, str]:
    """Return the folder of the cache, and create it.

    Parameters
    ----------
    data : DataOptions
        Its ``cache`` is the folder; by default it is ``brainchop-bids/training`` in
        ``$XDG_CACHE_HOME`` or ``~/.cache``.

    Returns
    -------
    folder : Path or None
        None if it cannot be written to.
    warning : str
        The reason, in one line; empty if there is a folder.
    """
    base = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    given = data.cache or os.path.join(base, 'brainchop-bids', 'training')
    # Path.expanduser raises without a home folder.
    folder = Path(os.path.expanduser(given))
    try:
        check_writable(folder)
    except OutputError as error:
        return None, f'conformed volumes are not cached between runs (data.cache): {error}'
    return folder, ''


def codes_on_grid(codes: np.ndarray, source: Geometry, target: Geometry) -> np.ndarray:
    """Resample the codes of a label map to a grid by nearest neighbours.

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
    """Return the pairs of classes that are exchanged when an image is flipped left to right.

    Parameters
    ----------
    labels : LabelTable
        Labels of the model that is trained.

    Returns
    -------
    list of (int, int)
        Left and right label.

    Raises
    ------
    SettingsError
        If a class of one side has no counterpart, since it would be wrong after a flip.

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
            'flipped; set augmentation.flip = 0'
        )
    return pairs


def _conform(example: Example, mapping: LabelMapping) -> Arrays:
    volumes = [read_volume(path) for path in example.images]
    for volume in volumes:
        require_contrast(volume)
    codes, geometry = load_labels(example.labels)
    mapping.check(codes, example.labels)
    scan = volumes[0].geometry
    if not matching_grid(geometry, scan):
        raise InputError(
            f'{example.labels}: does not lie on {example.images[0]}: '
            f'{describe_misalignment(geometry, scan)}'
        )
    conformed, images = conform_channels(volumes, ConformOptions())
    labels = codes_on_grid(codes, geometry, conformed.geometry)
    _require_labels(labels, mapping, example)
    images = np.ascontiguousarray(images.reshape(*labels.shape, len(volumes)))
    return images, labels


def _require_labels(labels: np.ndarray, mapping: LabelMapping, example: Example) -> None:
    present = np.flatnonzero(histogram(labels)).tolist()
    if not any(mapping.indices.get(code, 1) for code in present):
        raise InputError(
            f'{example.labels}: every voxel is background by the table {mapping.name}; is it the '
            f'label map of {example.images[0]}?'
        )


def _key(example: Example) -> str:
    """Return a checksum of the content of all files, which the arrays depend on."""
    content = []
    for path in (*example.images, example.labels):
        names = [path]
        if path.suffix.lower() == '.hdr':
            names = sorted(path.parent.glob(f'{path.stem}.*'))
        try:
            # The suffix decides how a file is read.
            content.append([(''.join(name.suffixes), sha256(name)) for name in names])
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise InputError(
                f'{path}: cannot be read ({reason}); check that it is there'
            ) from error
    facts = json.dumps([_VERSION, ConformOptions().to_dict(), content])
    return hashlib.sha256(facts.encode()).hexdigest()


def _files(folder: Path, key: str) -> tuple[Path, Path, Path]:
    """Return the files of images, labels and the checksums of both."""
    names = (f'{key}_images.npy', f'{key}_labels.npy', f'{key}.sha256')
    images, labels, sums = (folder / name for name in names)
    return images, labels, sums


def _read(files: tuple[Path, Path, Path]) -> Arrays | None:
    """Return the cached arrays as memory maps, or None if they are missing or damaged."""
    images, labels, sums = files
    try:
        if sums.read_text(encoding='utf-8') != _sums([images, labels]):
            return None
        return np.load(images, mmap_mode='r'), np.load(labels, mmap_mode='r')
    except (OSError, ValueError):
        return None


def _write(files: tuple[Path, Path, Path], arrays: Arrays) -> Arrays:
    """Write arrays to the cache and return them as memory maps, which workers share."""
    written: list[Path] = []

    def array_writer(array: np.ndarray) -> Writer:
        def write(path: Path) -> None:
            np.save(path, array)
            written.append(path)

        return write

    writers = [*map(array_writer, arrays), lambda path: path.write_text(_sums(written), 'utf-8')]
    try:
        publish(list(zip(files, writers, strict=True)))
    except OutputError:
        return arrays
    return _read(files) or arrays


def _sums(files: Sequence[Path]) -> str:
    return ''.join(f'{sha256(path)}\n' for path in files)

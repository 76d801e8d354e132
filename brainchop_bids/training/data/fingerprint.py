"""What is known of a dataset from its headers and some of its label maps."""

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...bids.label_maps import find_label_maps
from ...image.boxes import bounding_box
from ...image.geometry import Geometry
from ...image.headers import stem
from ...image.io import load_labels, read_geometry
from ...image.lookup import histogram
from ...models.mapping import LabelMapping, read_mapping
from ...system.errors import BrainchopError, DatasetError, SettingsError
from ...system.files import read_text
from ..config import read_options
from ..options import DataOptions
from .layouts import LAYOUTS
from .sources import label_map_files
from .splits import find_examples

# Label maps that are read, evenly spread over the dataset.
_READ = 20
_LAYOUT_TABLES = {'iseg2017': 'iseg_to_tissue', 'mrbrains': 'mrbrains_to_tissue'}
# Channels that are looked for besides the T1w.
_OTHERS = ('T2w', 'FLAIR', 'IR')
_ASEG = 'aseg_to_tissue'
# White matter and cortex, without which codes are not FreeSurfer's.
_ASEG_CODES = ((2, 41), (3, 42, *range(1000, 3000), *range(11100, 12176)))


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """Facts on a dataset.

    Parameters
    ----------
    subjects, scans : int
        Numbers of participants and of scans; of label maps if there are no scans.
    marked : bool
        Whether the dataset has a split of its own.
    synthetic : bool
        Whether images are made from label maps.
    zooms : tuple of (float, float, float)
        Voxel sizes of the scans, mm, each size once.
    extent : (float, float, float)
        Largest extent of the labels along left-right, head-foot and back-front, mm.
    volumes : dict of int to float
        Volume of each code in the label maps that were read, mm^3.
    mapping : LabelMapping or None
        Table that has all codes, if one is given or packaged.
    names : dict of int to str
        Names of the codes, if the dataset has a label table.
    """

    subjects: int
    scans: int
    marked: bool
    synthetic: bool
    zooms: tuple[tuple[float, float, float], ...]
    extent: tuple[float, float, float]
    volumes: dict[int, float]
    mapping: LabelMapping | None
    names: dict[int, str]

    @property
    def codes(self) -> list[int]:
        """All codes, the background first."""
        return sorted({0, *self.volumes})

    def shares(self, table: LabelMapping) -> list[float]:
        """Return the share of the voxels of each label; of two sides, half of what has none."""
        sums = np.zeros(table.classes)
        for code, volume in self.volumes.items():
            for label in table.sides.get(code, (table.indices.get(code, 0),)):
                sums[label] += volume / len(table.sides.get(code, (0,)))
        shares: list[float] = (sums / sums.sum()).tolist()
        return shares

    def absent(self, table: LabelMapping) -> list[str]:
        """Return the names of labels that no code of the data becomes."""
        shares = self.shares(table)
        return [table.labels.get(i, str(i)) for i, share in enumerate(shares) if i and not share]


def find_source(dataset: Path, changes: Sequence[str] = ()) -> DataOptions:
    """Find out what kind of dataset a path is, and its channels.

    Parameters
    ----------
    dataset : Path
        See `brainchop_bids.training.plan.write_plan`.
    changes : sequence of str
        ``data.KEY=VALUE``, which replace what is found.

    Returns
    -------
    DataOptions
        With channels that all subjects have.

    Raises
    ------
    DatasetError
        If it is not a dataset.
    SettingsError
        If a change is not understood.
    """
    path = dataset.expanduser().absolute()
    if not path.exists():
        raise DatasetError(f'{dataset}: does not exist; give a dataset, a table or label maps')
    given = read_options(DataOptions, {}, changes, 'data')
    data = read_options(DataOptions, _source(path, given.derivatives), changes, 'data')
    if data.label_maps or any(change.startswith('data.channels') for change in changes):
        return data
    # The more channels the better, as long as no scan is lost.
    best = replace(data, channels=('T1w',))
    count = len(find_examples(best))
    for channel in _OTHERS:
        wider = replace(best, channels=(*best.channels, channel))
        try:
            if len(find_examples(wider)) == count:
                best = wider
        except (DatasetError, SettingsError):
            continue
    return best


def _source(path: Path, derivatives: str) -> dict[str, str]:
    """Return the keys of the ``[data]`` table that name a dataset."""
    if path.is_file():
        return {'table': str(path)}
    if (path / 'dataset_description.json').exists():
        return {'bids': str(path), 'derivatives': derivatives or str(_derivatives(path))}
    for layout, find in LAYOUTS.items():
        try:
            find(path, ('T1w',))
        except DatasetError:
            continue
        return {'folder': str(path), 'layout': layout}
    return {'label_maps': str(path)}


def _derivatives(path: Path) -> Path:
    """Return the only dataset in ``derivatives`` that has label images, or else all of them."""
    folder = path / 'derivatives'
    datasets = (
        sorted(entry for entry in folder.iterdir() if entry.is_dir()) if folder.exists() else []
    )
    found = []
    for entry in datasets:
        try:
            find_label_maps(entry, {})
        except DatasetError:
            continue
        found.append(entry)
    if len(found) > 1:
        names = ', '.join(entry.name for entry in found)
        raise DatasetError(
            f'{folder}: label images are in {names}; choose by --set data.derivatives=FOLDER'
        )
    return found[0] if found else folder


def take_fingerprint(data: DataOptions) -> Fingerprint:
    """Read headers, and up to 20 label maps.

    Parameters
    ----------
    data : DataOptions
        From `find_source`.

    Returns
    -------
    Fingerprint

    Raises
    ------
    DatasetError
        If there are no labelled scans or label maps.
    InputError, ModelError
        If a file cannot be read, or ``data.mapping`` is given and lacks a code.
    """
    if data.label_maps:
        training, held_out = label_map_files(data)
        maps = sorted([*training, *held_out])
        scans, subjects, marked = maps, {stem(path) for path in maps}, False
    else:
        examples = find_examples(data)
        scans, maps = [one.images[0] for one in examples], [one.labels for one in examples]
        subjects = {one.subject for one in examples}
        marked = any(one.split for one in examples)
    volumes: defaultdict[int, float] = defaultdict(float)
    extent = np.zeros(3)
    read = maps[:: -(-len(maps) // _READ)]
    for path in read:
        codes, geometry = load_labels(path)
        counts = histogram(codes)
        for code in np.flatnonzero(counts).tolist():
            volumes[code] += float(counts[code]) * geometry.voxel_volume
        extent = np.maximum(extent, _extent(codes, geometry))
    zooms = {_zooms(read_geometry(path)[0]) for path in scans}
    names = _names(data)
    x, y, z = extent.tolist()
    return Fingerprint(
        len(subjects),
        len(scans),
        marked,
        bool(data.label_maps),
        tuple(sorted(zooms)),
        (x, y, z),
        dict(volumes),
        _mapping(data, set(volumes), read[0]),
        names,
    )


def _zooms(geometry: Geometry) -> tuple[float, float, float]:
    x, y, z = (round(float(zoom), 3) for zoom in geometry.zooms)
    return x, y, z


def _extent(codes: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Return the extent of what is not 0 along left-right, head-foot and back-front, mm."""
    box = bounding_box(codes > 0)
    if box is None:
        return np.zeros(3)
    ends = [(side.start - 0.5, side.stop - 0.5) for side in box]
    corners = np.stack(np.meshgrid(*ends, indexing='ij'), -1).reshape(-1, 3)
    right, front, up = np.ptp(corners @ geometry.affine[:3, :3].T, axis=0)
    return np.array([right, up, front])


def _mapping(data: DataOptions, codes: set[int], path: Path) -> LabelMapping | None:
    """Return the table that is given, that of the layout, or FreeSurfer's if codes are its own."""
    given = data.mapping if data.mapping != DataOptions.mapping else ''
    if table := given or _LAYOUT_TABLES.get(data.layout):
        mapping = read_mapping(table)
        mapping.check(np.array(sorted(codes)), path)
        return mapping
    aseg = read_mapping(_ASEG)
    known = codes <= {*aseg.indices, *aseg.sides}
    return aseg if known and all(codes & {*some} for some in _ASEG_CODES) else None


def _names(data: DataOptions) -> dict[int, str]:
    """Return the names in a BIDS label table of the derivatives, if there is one."""
    pattern = f'*seg-{data.segmentation}_dseg.tsv' if data.segmentation else '*dseg.tsv'
    tables = sorted(Path(data.derivatives).glob(pattern)) if data.derivatives else []
    if len(tables) != 1:
        return {}
    try:
        rows = csv.DictReader(read_text(tables[0], 'utf-8-sig').splitlines(), delimiter='\t')
        return {int(row['index']): row['name'] for row in rows if row.get('name')}
    except (BrainchopError, KeyError, OSError, TypeError, ValueError):
        return {}

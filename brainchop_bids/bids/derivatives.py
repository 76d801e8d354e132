"""Derivatives of one scan: names, sidecars, and the check that they are current."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from .. import __version__
from ..system.atomic import Writer, copy_writer, publish, sha256, text_writer
from .names import ScanName

# Reason for processing a scan that has no results.
NEW = 'not done yet'
# `index` and `name` are defined by BIDS and must not be described again.
COLUMNS = {
    'voxels': {'Description': 'Number of voxels with this label in the image'},
    'volume': {'Description': 'Volume of the structure', 'Units': 'mm^3'},
}


@dataclass(frozen=True)
class FigureKind:
    """File name of a figure of a page.

    Parameters
    ----------
    desc : str
        Value of the entity ``desc``.
    extension : str
        Extension with its dot.
    of_model : bool
        True if there is one for each model, False if there is one for each scan.
    """

    desc: str
    extension: str
    of_model: bool


# `conform` shows the field of view of the conformed scan; `slices`, `grid` and `volume` are for
# the viewer; `cuts`, `labels` and `outline` are layers of one picture.
FIGURES = {
    'conform': FigureKind('conform', '.webp', False),
    'slices': FigureKind('slices', '.webp', False),
    'grid': FigureKind('slices', '.json', False),
    'cuts': FigureKind('cuts', '.webp', True),
    'labels': FigureKind('labels', '.webp', True),
    'outline': FigureKind('outline', '.webp', True),
    'volume': FigureKind('slices', '.gz', True),
}


@dataclass(frozen=True)
class ScanOutputs:
    """Paths of the results of one scan and one model.

    Parameters
    ----------
    root : Path
        The derivative dataset.
    name : ScanName
        The source scan.
    slug : str
        Name of the model in file names.
    """

    root: Path
    name: ScanName
    slug: str

    @cached_property
    def anat(self) -> Path:
        """Folder of the images."""
        return self.root / self.name.folder

    @property
    def dseg(self) -> Path:
        """Labels in the scan's own grid; this file is written last."""
        return self.anat / self.name.name('dseg', '.nii.gz', seg=self.slug)

    @property
    def volumes(self) -> Path:
        """Table of volumes."""
        return self.anat / self.name.name('dseg', '.tsv', seg=self.slug)

    @property
    def dseg_conform(self) -> Path:
        """Labels in the conformed grid."""
        return self.anat / self.name.name('dseg', '.nii.gz', space='conform', seg=self.slug)

    @property
    def preproc(self) -> Path:
        """The conformed scan."""
        return self.anat / self.name.name('T1w', '.nii.gz', space='conform', desc='preproc')

    @property
    def mask(self) -> Path:
        """Brain mask in the scan's own grid."""
        return self.anat / self.name.name('mask', '.nii.gz', desc='brain')

    @property
    def brain(self) -> Path:
        """Skull-stripped scan."""
        return self.anat / self.name.name('T1w', '.nii.gz', desc='brain')

    @property
    def figures(self) -> dict[str, Path]:
        """All figures of a page by name."""
        return {name: self.figure(name) for name in FIGURES}

    def figure(self, name: str) -> Path:
        """Figure of a page, by its name in `FIGURES`."""
        kind = FIGURES[name]
        entities = {'seg': self.slug, 'desc': kind.desc} if kind.of_model else {'desc': kind.desc}
        stem = self.name.name('dseg' if kind.of_model else 'T1w', kind.extension, **entities)
        return self.root / f'sub-{self.name.subject}' / 'figures' / stem

    @property
    def anchor(self) -> str:
        """HTML id of the results on the page: letters, digits and hyphens."""
        return re.sub(r'[^A-Za-z0-9_-]', '-', f'{self.name.stem}_seg-{self.slug}')

    def probseg(self, abbreviation: str) -> Path:
        """Probability map of one label, in the scan's own grid."""
        return self.anat / self.name.name('probseg', '.nii.gz', seg=self.slug, label=abbreviation)


@dataclass(frozen=True)
class DerivedFiles:
    """Files of a segmentation that is derived from a model's labels by a look-up table.

    Parameters
    ----------
    slug : str
        Name of the segmentation in file names.
    table : str
        Name of the look-up table.
    dseg, dseg_conform : Path
        Labels in the scan's own grid and in the conformed one.
    volumes : Path
        Table of volumes.
    """

    slug: str
    table: str
    dseg: Path
    dseg_conform: Path
    volumes: Path


def page_path(root: Path, participant: str, session: str | None = None) -> Path:
    """Return the path of the page of a participant or of one of the sessions.

    Examples
    --------
    >>> page_path(Path('out'), '01', 'A').name
    'sub-01_ses-A.html'
    """
    stem = f'sub-{participant.removeprefix("sub-")}'
    if session:
        stem += f'_ses-{session.removeprefix("ses-")}'
    return root / f'{stem}.html'


def sidecar(path: Path) -> Path:
    """Return the JSON file that describes an image or table."""
    return path.with_name(path.name.removesuffix('.gz').rpartition('.')[0] + '.json')


def fingerprint(
    source: Path, model_sha256: str, recipe: dict[str, Any], others: Sequence[Path] = ()
) -> dict[str, Any]:
    """Return the version, checksums and settings that a result depends on.

    Parameters
    ----------
    source : Path
        The scan.
    model_sha256 : str
        Checksum of the model.
    recipe : dict
        `Settings.recipe()`.
    others : sequence of Path
        Other scans of the same head that the model takes.

    Returns
    -------
    dict
        Version, checksums of scans and model, settings.
    """
    return {
        'Version': __version__,
        'SourceSHA256': sha256(source),
        'ModelSHA256': model_sha256,
        'Settings': recipe,
        **({'OthersSHA256': [sha256(path) for path in others]} if others else {}),
    }


def why_redo(
    outputs: ScanOutputs,
    source: Path,
    model_sha256: str,
    recipe: dict[str, Any],
    labels: list[str],
    *,
    mask: bool = True,
    brain: bool = False,
    derived: Sequence[str] = (),
    others: Sequence[Path] = (),
) -> str | None:
    """Return the reason for processing a scan, None if its results are complete and current.

    Parameters
    ----------
    outputs : ScanOutputs
        Paths of the results.
    source : Path
        The scan.
    model_sha256 : str
        Checksum of the model.
    recipe : dict
        `Settings.recipe()`.
    labels : list of str
        Abbreviations of the probability maps that this run writes.
    mask, brain : bool
        True if this model writes the brain mask and the skull-stripped scan.
    derived : sequence of str
        Names of the segmentations that are derived from the labels.
    others : sequence of Path
        Other scans of the same head that the model takes.

    Returns
    -------
    str or None
    """
    images = [outputs.preproc, outputs.dseg_conform, outputs.dseg]
    images += [outputs.mask] * mask + [outputs.brain] * brain
    images += [outputs.probseg(label) for label in labels]
    tables = [outputs.volumes]
    for other in (replace(outputs, slug=slug) for slug in derived):
        images += [other.dseg_conform, other.dseg]
        tables.append(other.volumes)
    files = [*images, *map(sidecar, images), *tables, *outputs.figures.values()]
    absent = [path for path in files if not path.exists()]
    if len(absent) == len(files):
        return NEW
    if absent:
        return f'{absent[0].name} is missing'
    previous = _fact(outputs.dseg, 'Brainchop')
    if previous is None:
        return f'{sidecar(outputs.dseg).name} has no record of the run'
    if previous.get('Version') != __version__:
        return f'made by version {previous.get("Version")}'
    if previous.get('ModelSHA256') != model_sha256:
        return 'the model has changed'
    if previous.get('Settings') != recipe:
        return 'the settings have changed'
    if mask and (_fact(outputs.mask, 'Model') or {}).get('SHA256') != model_sha256:
        return 'the brain mask is that of another model'
    for other in (replace(outputs, slug=slug) for slug in derived):
        if (_fact(other.dseg, 'Model') or {}).get('SHA256') != model_sha256:
            return f'seg-{other.slug} is that of another model'
    # Last, because it reads the whole file.
    if previous.get('OthersSHA256', []) != [sha256(path) for path in others]:
        return 'another scan of the head has changed'
    if previous.get('SourceSHA256') != sha256(source):
        return 'the scan has changed'
    return None


def _fact(path: Path, key: str) -> dict[str, Any] | None:
    """Return an object of a sidecar, None if there is none."""
    try:
        value = json.loads(sidecar(path).read_text(encoding='utf-8'))[key]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return value if isinstance(value, dict) else None


def write_scan(
    outputs: ScanOutputs,
    *,
    source: str,
    images: dict[str, Path],
    volumes: Path,
    figures: dict[str, Path],
    probsegs: dict[str, Path],
    derived: Sequence[DerivedFiles] = (),
    record: dict[str, Any],
) -> None:
    """Write all derivatives of a scan; labels in the scan's own grid are written last.

    Parameters
    ----------
    outputs : ScanOutputs
        Paths of the files.
    source : str
        The scan's path in its dataset.
    images : dict of str to Path
        Files of ``preproc``, ``dseg_conform``, ``dseg`` and, if this model writes them, ``mask``
        and ``brain``.
    volumes : Path
        Table of volumes.
    figures : dict of str to Path
        Files of the figures, by name.
    probsegs : dict of str to Path
        Abbreviation of a label to its probability map.
    derived : sequence of DerivedFiles
        Derived segmentations.
    record : dict
        Facts about the run, for the sidecar of the labels.

    Raises
    ------
    OutputError
        If a file cannot be written; existing files are then unchanged.
    """
    facts = _sidecars(outputs, source, probsegs, record)
    contents = {
        outputs.preproc: images['preproc'],
        outputs.dseg_conform: images['dseg_conform'],
        **{getattr(outputs, key): images[key] for key in ('mask', 'brain') if key in images},
        **{outputs.probseg(label): path for label, path in probsegs.items()},
        **{outputs.figure(name): path for name, path in figures.items()},
    }
    for one in derived:
        more_facts, more_contents = _derived(outputs, one, record)
        facts |= more_facts
        contents |= more_contents
    contents |= {outputs.volumes: volumes, outputs.dseg: images['dseg']}
    files: list[tuple[Path, Writer]] = []
    for path, content in contents.items():
        if path in facts:
            text = json.dumps(facts[path], indent=2, ensure_ascii=False) + '\n'
            files.append((sidecar(path), text_writer(text)))
        files.append((path, copy_writer(content)))
    publish(files, replaces=outputs.dseg)


def _sidecars(
    outputs: ScanOutputs, source: str, probsegs: Iterable[str], record: dict[str, Any]
) -> dict[Path, dict[str, Any]]:
    """Return the content of the sidecar of each image."""
    raw = f'bids:raw:{source}'
    space = f'bids::{outputs.preproc.relative_to(outputs.root).as_posix()}'
    return {
        outputs.preproc: {
            'Description': "Scan conformed as FreeSurfer's mri_convert -c does",
            'Sources': [raw],
            'SkullStripped': False,
            'SpatialReference': space,
        },
        outputs.dseg_conform: {
            'Description': 'Labels in the conformed grid',
            'Sources': [space],
            'SpatialReference': space,
            **{key: record[key] for key in ('Model', 'Components') if key in record},
        },
        outputs.mask: {'Type': 'Brain', 'Sources': [raw], 'Model': record.get('Model', {})},
        outputs.brain: {
            'Description': 'The scan, 0 outside the brain mask',
            'Sources': [raw],
            'SkullStripped': True,
        },
        **{
            outputs.probseg(label): {'Description': f'Probability of {label}', 'Sources': [raw]}
            for label in probsegs
        },
        outputs.dseg: {
            'Description': "Labels in the scan's own grid",
            'Sources': [raw, space],
            **record,
            **COLUMNS,
        },
    }


def _derived(
    outputs: ScanOutputs, files: DerivedFiles, record: dict[str, Any]
) -> tuple[dict[Path, dict[str, Any]], dict[Path, Path]]:
    """Return the sidecars and files of a derived segmentation, by the paths of its outputs."""
    other = replace(outputs, slug=files.slug)
    space = f'bids::{outputs.preproc.relative_to(outputs.root).as_posix()}'
    kept = ('Model', 'BrainVolume', 'IntracranialVolume', 'Brainchop')
    facts: dict[Path, dict[str, Any]] = {
        target: {
            'Description': f'Labels that follow from those of seg-{outputs.slug} by a table',
            'Sources': [f'bids::{source.relative_to(outputs.root).as_posix()}'],
            'DerivedBy': files.table,
            **{key: record[key] for key in kept if key in record},
            **more,
        }
        for target, source, more in (
            (other.dseg_conform, outputs.dseg_conform, {'SpatialReference': space}),
            (other.dseg, outputs.dseg, COLUMNS),
        )
    }
    contents = {
        other.dseg_conform: files.dseg_conform,
        other.volumes: files.volumes,
        other.dseg: files.dseg,
    }
    return facts, contents

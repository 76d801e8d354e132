"""Derivatives of one scan: names, sidecars, and the check that they are current."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from .. import __version__
from ..system.atomic import sha256
from .names import ScanName

# Reason for processing a scan that has no results.
NEW = 'not done yet'


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
# A further layer of that picture, if maps of uncertainty are written.
UNCERTAINTY = 'uncertainty'
# Maps of uncertainty by the value of the entity `desc`.
MAPS = {
    'entropy': 'Entropy of the class probabilities of each voxel, from 0 where one class is '
    'certain to log(classes) where all are equally likely',
    'spread': 'Spread of the class probabilities over the scan and its left-right mirror image: '
    'their mutual information with the choice of the image (the entropy of their mean less the '
    'mean of their entropies), from 0 where both agree to log(2)',
}


def figure_kind(name: str) -> FigureKind:
    """Return the kind of a figure, by its name in `FIGURES` or `UNCERTAINTY`."""
    return FigureKind('entropy', '.webp', True) if name == UNCERTAINTY else FIGURES[name]


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
        return self.anat / self.name.name(
            self.name.modality, '.nii.gz', space='conform', desc='preproc'
        )

    @property
    def mask(self) -> Path:
        """Brain mask in the scan's own grid."""
        return self.anat / self.name.name('mask', '.nii.gz', desc='brain')

    @property
    def brain(self) -> Path:
        """Skull-stripped scan."""
        return self.anat / self.name.name(self.name.modality, '.nii.gz', desc='brain')

    @property
    def figures(self) -> dict[str, Path]:
        """The figures that each page has, by name."""
        return {name: self.figure(name) for name in FIGURES}

    def figure(self, name: str) -> Path:
        """Figure of a page, by its name in `FIGURES` or `UNCERTAINTY`."""
        kind = figure_kind(name)
        entities = {'seg': self.slug, 'desc': kind.desc} if kind.of_model else {'desc': kind.desc}
        suffix = 'dseg' if kind.of_model else self.name.modality
        stem = self.name.name(suffix, kind.extension, **entities)
        return self.root / f'sub-{self.name.subject}' / 'figures' / stem

    @property
    def anchor(self) -> str:
        """HTML id of the results on the page: letters, digits and hyphens."""
        return re.sub(r'[^A-Za-z0-9_-]', '-', f'{self.name.stem}_seg-{self.slug}')

    def probseg(self, abbreviation: str) -> Path:
        """Probability map of one label, in the scan's own grid."""
        return self.anat / self.name.name('probseg', '.nii.gz', seg=self.slug, label=abbreviation)

    def uncertainty(self, name: str) -> Path:
        """Map of uncertainty in the scan's own grid, by its name in `MAPS`."""
        return self.anat / self.name.name('probseg', '.nii.gz', seg=self.slug, desc=name)


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
    maps: Sequence[str] = (),
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
    maps : sequence of str
        Names of the maps of uncertainty that this run writes.
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
    images += [outputs.uncertainty(name) for name in maps]
    tables = [outputs.volumes]
    for other in (replace(outputs, slug=slug) for slug in derived):
        images += [other.dseg_conform, other.dseg]
        tables.append(other.volumes)
    files = [*images, *map(sidecar, images), *tables, *outputs.figures.values()]
    files += [outputs.figure(UNCERTAINTY)] * bool(maps)
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

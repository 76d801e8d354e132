"""Options of scans, and settings of one scan as JSON for other processes."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from ..image.border import check_border
from ..image.conform import ConformOptions
from ..image.mgh import is_mgh
from ..image.normalise import Normalization
from ..system.errors import SettingsError
from ..system.resources import Granted
from .options import InferenceOptions

# The longest suffix of a name first.
_IMAGES = ('.nii.gz', '.mgh.gz', '.nii', '.mgh', '.mgz')
_FILES = ('mask', 'brain', 'probseg', 'uncertainty', 'volumes', 'stats', 'preview')
SPACES = ('native', 'conform')
RESAMPLE = ('linear', 'nearest')
LABEL_CODES = ('model', 'freesurfer')


@dataclass(frozen=True, kw_only=True)
class ScanOptions:
    """Options of the segmentation of scans, whatever they are and whatever is written.

    Parameters
    ----------
    inference : InferenceOptions
        Options of the network.
    memory : Granted, optional
        Memory that may be used; by default as much as this process is granted.
    space : {'native', 'conform'}
        Grid of all outputs.
    components : str, optional
        Rule for connected components, see `Cleanup`; by default the model's own.
    resample : {'linear', 'nearest'}
        Interpolation of labels on the scan's own grid.
    label_codes : {'model', 'freesurfer'}
        Values of labels, see `LabelTable.values`.
    roi_subset : tuple of str
        Names of the labels to keep, see `LabelTable.subset`; by default all.
    border : float
        Distance in mm by which the mask grows, or shrinks if it is negative, see `move_border`.
    normalization : Normalization, optional
        Normalization that replaces the model's own.
    localiser : str
        What finds the brain first: ``'auto'`` for what the model names, a name or a folder, or
        ``'none'``, see `brainchop_bids.inference.localise.localisation`.
    frame : int, optional
        Frame of a 4-D file, counted from 0.
    conform : ConformOptions
        Options of the conform step.
    threads : int
        Number of threads.

    Raises
    ------
    SettingsError
        If a value is invalid.
    """

    inference: InferenceOptions = field(default_factory=InferenceOptions)
    memory: Granted | None = None
    space: str = 'native'
    components: str | None = None
    resample: str = 'linear'
    label_codes: str = 'model'
    roi_subset: tuple[str, ...] = ()
    border: float = 0.0
    normalization: Normalization | None = None
    localiser: str = 'auto'
    frame: int | None = None
    conform: ConformOptions = field(default_factory=ConformOptions)
    threads: int = 1

    def __post_init__(self) -> None:
        """Check the values."""
        check_border(self.border)
        for name, value, known in (
            ('space', self.space, SPACES),
            ('resample', self.resample, RESAMPLE),
            ('label codes', self.label_codes, LABEL_CODES),
        ):
            if value not in known:
                raise SettingsError(f'{name} {value!r} is none of {", ".join(known)}')


@dataclass(frozen=True)
class ScanSettings(ScanOptions):
    """Options of one scan, and the files to read and to write.

    Parameters
    ----------
    t1w, out : Path
        The scan, and the label image to write (``.nii``, ``.nii.gz``, ``.mgh`` or ``.mgz``).
    channels : tuple of Path
        Other scans of the same head, aligned by their headers, for networks that take several.
    derived : tuple of (str, Path)
        Names of derived segmentations, and the images to write.
    mask, brain, probseg, uncertainty, volumes, stats, preview : Path, optional
        Files to write: brain mask, skull-stripped scan, class probabilities (4-D
        float32, no ``.nii.gz``), their entropy (see also `spread`), table of volumes, facts
        about the run (JSON), and a picture (PNG).

    Raises
    ------
    SettingsError
        If settings are invalid or exclude each other.
    """

    t1w: Path
    out: Path
    channels: tuple[Path, ...] = ()
    derived: tuple[tuple[str, Path], ...] = ()
    mask: Path | None = None
    brain: Path | None = None
    probseg: Path | None = None
    uncertainty: Path | None = None
    volumes: Path | None = None
    stats: Path | None = None
    preview: Path | None = None

    def __post_init__(self) -> None:
        """Check that outputs do not overwrite each other and that their folders exist."""
        super().__post_init__()
        derived, outputs = [path for _, path in self.derived], self.outputs
        for path in (self.out, self.mask, self.brain, self.uncertainty, *derived):
            if path is not None and not _is_image(path):
                raise SettingsError(
                    f'{path}: is no NIfTI name and none of MGH; end it with .nii, .nii.gz, .mgh '
                    'or .mgz'
                )
        if self.probseg is not None and not _is_image(self.probseg, nifti=('.nii',)):
            raise SettingsError(
                f'{self.probseg}: probabilities are written as uncompressed NIfTI or as MGH; end '
                'the name with .nii, .mgh or .mgz'
            )
        if self.border and self.mask is None and self.brain is None:
            raise SettingsError(
                f'--border {self.border:g} is for the brain mask; add --mask or --brain'
            )
        if self.preview is not None and self.preview.suffix.lower() != '.png':
            raise SettingsError(f'{self.preview}: is no name of a picture; end it with .png')
        for path in outputs:
            if not path.parent.is_dir():
                raise SettingsError(f'{path}: its folder does not exist; make it first')
            if path.is_dir():
                raise SettingsError(f'{path}: is a folder; give the name of a file')
        # Unlike `Path.resolve`, this accepts links that point to themselves.
        names = [os.path.realpath(path) for path in (self.t1w, *self.channels, *outputs)]
        if len(set(names)) < len(names):
            raise SettingsError(
                f'{self.t1w}: the scans and the outputs need different names; '
                f'given are {", ".join(map(str, outputs))}'
            )

    @property
    def outputs(self) -> list[Path]:
        """All files to write."""
        given = (self.out, self.mask, self.brain, self.probseg, self.volumes, self.stats)
        derived = (path for _, path in self.derived)
        maps = (self.uncertainty, self.spread, self.preview)
        return [path for path in (*given, *maps, *derived) if path is not None]

    @property
    def spread(self) -> Path | None:
        """Image of the spread over flips, beside that of the entropy; None if there are none."""
        path = self.uncertainty
        if path is None or not self.inference.tta:
            return None
        suffix = next((s for s in _IMAGES if path.name.endswith(s)), path.suffix)
        return path.with_name(f'{path.name.removesuffix(suffix)}_spread{suffix}')

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as data.

        Returns
        -------
        dict
            Ready for JSON; `from_dict` reads it.
        """
        return {
            item.name: _to_json(getattr(self, item.name))
            for item in fields(self)
            if getattr(self, item.name) is not None
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> 'ScanSettings':
        """Read what `to_dict` returns.

        Parameters
        ----------
        given : mapping
            Settings as data.

        Returns
        -------
        ScanSettings

        Raises
        ------
        SettingsError
            If settings are invalid or exclude each other.
        """
        values = dict(given)
        for name in ('t1w', 'out', *_FILES):
            if name in values:
                values[name] = Path(values[name])
        values['channels'] = tuple(Path(path) for path in values.get('channels', ()))
        derived = values.get('derived', ())
        values['derived'] = tuple((name, Path(path)) for name, path in derived)
        values['roi_subset'] = tuple(values.get('roi_subset', ()))
        for name, kind in (
            ('inference', InferenceOptions),
            ('memory', Granted),
            ('conform', ConformOptions),
        ):
            if name in values:
                values[name] = kind(**values[name])
        if 'normalization' in values:
            values['normalization'] = Normalization.parse(values['normalization'])
        return cls(**values)


def _is_image(path: Path, nifti: tuple[str, ...] = ('.nii', '.nii.gz')) -> bool:
    return path.name.endswith(nifti) or is_mgh(path.name)


def _to_json(value: Any) -> Any:
    if isinstance(value, (Path, Normalization)):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, tuple):
        return [_to_json(item) for item in value]
    return value

"""Settings of one scan, which can be converted to JSON for other processes."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from ..image.conform import ConformOptions
from ..image.normalise import Normalization
from ..system.errors import SettingsError
from ..system.resources import Granted
from .options import InferenceOptions


@dataclass(frozen=True)
class ScanSettings:
    """Settings of the segmentation of one scan.

    Parameters
    ----------
    t1w, out : Path
        The scan, and the label image to write (``.nii`` or ``.nii.gz``).
    inference : InferenceOptions
        Options of the network.
    memory : Granted, optional
        Memory that may be used; by default as much as this process is granted.
    channels : tuple of Path
        Other scans of the same head, aligned by their headers, for networks that take several.
    space : {'native', 'conform'}
        Grid of all outputs.
    components : str, optional
        Rule for connected components, see `Cleanup`; by default the model's own.
    resample : {'linear', 'nearest'}
        Interpolation of labels on the scan's own grid.
    label_codes : {'model', 'freesurfer'}
        Values of labels, see `LabelTable.values`.
    derived : tuple of (str, Path)
        Names of derived segmentations, and the images to write.
    mask, brain, probseg, volumes, stats : Path, optional
        Files to write: brain mask, skull-stripped scan, class probabilities (4-D float32
        ``.nii``), table of volumes, and facts about the run (JSON).
    normalization : Normalization, optional
        Normalization that replaces the model's own.
    frame : int, optional
        Frame of a 4-D file, counted from 0.
    conform : ConformOptions
        Options of the conform step.
    threads : int
        Number of threads.

    Raises
    ------
    SettingsError
        If settings are invalid or exclude each other.
    """

    t1w: Path
    out: Path
    inference: InferenceOptions = field(default_factory=InferenceOptions)
    memory: Granted | None = None
    channels: tuple[Path, ...] = ()
    space: str = 'native'
    components: str | None = None
    resample: str = 'linear'
    label_codes: str = 'model'
    derived: tuple[tuple[str, Path], ...] = ()
    mask: Path | None = None
    brain: Path | None = None
    probseg: Path | None = None
    volumes: Path | None = None
    stats: Path | None = None
    normalization: Normalization | None = None
    frame: int | None = None
    conform: ConformOptions = field(default_factory=ConformOptions)
    threads: int = 1

    def __post_init__(self) -> None:
        """Check that outputs do not overwrite each other and that their folders exist."""
        given = (self.out, self.mask, self.brain, self.probseg, self.volumes, self.stats)
        derived = [path for _, path in self.derived]
        outputs = [path for path in (*given, *derived) if path is not None]
        for path in (self.out, self.mask, self.brain, *derived):
            if path is not None and not path.name.endswith(('.nii', '.nii.gz')):
                raise SettingsError(f'{path}: is no NIfTI name; end it with .nii or .nii.gz')
        if self.probseg is not None and self.probseg.suffix != '.nii':
            raise SettingsError(
                f'{self.probseg}: probabilities are written uncompressed; end the name with .nii'
            )
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
        for name in ('t1w', 'out', 'mask', 'brain', 'probseg', 'volumes', 'stats'):
            if name in values:
                values[name] = Path(values[name])
        values['channels'] = tuple(Path(path) for path in values.get('channels', ()))
        derived = values.get('derived', ())
        values['derived'] = tuple((name, Path(path)) for name, path in derived)
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


def _to_json(value: Any) -> Any:
    if isinstance(value, (Path, Normalization)):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, tuple):
        return [_to_json(item) for item in value]
    return value

"""What a training run is asked for: a TOML file, read into frozen dataclasses.

Every key has a default but where the data lie; ``recipes/README.md`` explains them. A key that
is not known is refused with the nearest one that is.
"""

import sys
import typing
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from ..image.cleanup import Cleanup, MaskRule
from ..image.normalise import Normalization
from ..image.smooth import Smoothing
from ..models.spec import MODEL_NAME
from ..system.errors import SettingsError
from .augment.transforms import Augmentation
from .choices import require_known, suggestion
from .options import (
    Card,
    Data,
    Init,
    Loss,
    Network,
    Optimizer,
    Stage,
    SynthesisOptions,
    Validation,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Parameters
    ----------
    seed : int
        Decides every random number.
    workers : int
        Processes that make images; 0 takes all processors but one.
    precision : str
        A dtype policy of Keras: ``'float32'``, ``'mixed_bfloat16'``, ``'mixed_float16'``; or
        ``'auto'``, the quicker of the first two on this machine, see
        `brainchop_bids.training.devices.prepare`.
    checkpoint_every : int
        Steps between checkpoints, log rows and validations.
    validation_cubes : int
        Cubes of the held-out maps (of the others, where none is held out) that are scored then.
    devices : int
        GPUs that share each batch; 0 takes all.
    """

    seed: int = 0
    workers: int = 0
    precision: str = 'float32'
    checkpoint_every: int = 100
    validation_cubes: int = 4
    devices: int = 1
    data: Data = field(default_factory=Data)
    model: Network = field(default_factory=Network)
    init: Init = field(default_factory=Init)
    loss: Loss = field(default_factory=Loss)
    optimizer: Optimizer = field(default_factory=Optimizer)
    validation: Validation = field(default_factory=Validation)
    synthesis: SynthesisOptions = field(default_factory=SynthesisOptions)
    augmentation: Augmentation = field(default_factory=Augmentation)
    card: Card = field(default_factory=Card)
    stages: tuple[Stage, ...] = (Stage(),)

    def __post_init__(self) -> None:
        """Refuse what could only fail later.

        Raises
        ------
        SettingsError
            Naming the key.
        """
        from .losses.registry import LOSSES

        if not self.loss.terms:
            require_known('loss.kind', self.loss.kind, LOSSES)
        Normalization.parse(self.data.normalization)
        Cleanup.parse(self.card.components or 'largest')
        Smoothing.from_dict(self.card.smooth)
        MaskRule.from_dict(self.card.mask)
        data, validation = self.data, self.validation
        given = [f'data.{key}' for key in _SOURCES if getattr(data, key)]
        known = ', '.join(f'data.{key}' for key in _SOURCES)
        least = min(validation.every, validation.volumes, validation.patience)
        scored = validation.every % max(1, self.checkpoint_every) == 0
        patient = not validation.patience or validation.every > 0
        checks = [
            (
                len(given) == 1,
                'data',
                f'exactly one of {known}; given: {", ".join(given) or "none"}',
            ),
            (len(set(data.channels)) == len(data.channels) > 0, 'data.channels', 'suffixes'),
            (data.channels[:1] == ('T1w',), 'data.channels', 'T1w first, whose grid is used'),
            (
                not data.label_maps or len(data.channels) == 1,
                'data.channels',
                'one channel, where images are made from label maps',
            ),
            (
                MODEL_NAME.fullmatch(self.card.name) is not None,
                'card.name',
                'letters, digits, - and _: a folder is named so',
            ),
            (self.precision in _PRECISIONS, 'precision', f'one of {", ".join(_PRECISIONS)}'),
            (self.checkpoint_every > 0, 'checkpoint_every', 'at least 1'),
            (least >= 0, 'validation', 'numbers of 0 or more'),
            (scored, 'validation.every', 'a multiple of checkpoint_every'),
            (patient, 'validation.patience', '0, or validation.every above 0'),
            (bool(self.stages), 'stages', 'at least one [[stages]]'),
            (self.workers >= 0 and self.validation_cubes >= 0, 'workers', '0 or more'),
            (self.model.channels > 0, 'model.channels', 'at least 1'),
            (self.model.levels > 0, 'model.levels', 'at least 1'),
            (0 <= self.model.dropout < 1, 'model.dropout', '0 or more and below 1'),
            (
                len(self.model.widths) > 0 and min(self.model.widths, default=0) > 0,
                'model.widths',
                'a list of whole numbers of 1 or more',
            ),
            (self.model.space_to_depth in (1, 2), 'model.space_to_depth', '1 or 2'),
            (
                self.model.space_to_depth == 1 or self.model.architecture in _ON_PLACES,
                'model.space_to_depth',
                f'1, or one of {", ".join(_ON_PLACES)} as model.architecture',
            ),
            (
                bool(self.model.dilations) and min(self.model.dilations, default=0) > 0,
                'model.dilations',
                'a list of whole numbers of 1 or more',
            ),
        ]
        kinds = [term.kind for term in self.loss.terms] or [self.loss.kind]
        for i, stage in enumerate(self.stages):
            self.options(stage)
            numbers = (stage.steps, stage.cube, stage.batch, stage.cubes_per_volume)
            # Layers that a stage of stride 2 leaves out would be lost.
            back = i > 0 and stage.stride > self.stages[i - 1].stride
            even = stage.cube % stage.stride == 0 if stage.stride in (1, 2) else False
            checks += [
                (min(numbers) > 0, f'stages[{i}]', 'numbers above 0'),
                (not back, f'stages[{i}].stride', '1, as in the stage before'),
                (even, f'stages[{i}].stride', '1, or 2 with an even cube'),
                (
                    0 <= stage.subvoxels < self.model.space_to_depth**3,
                    f'stages[{i}].subvoxels',
                    '0, or less than the voxels of a place (model.space_to_depth)',
                ),
                (
                    not stage.subvoxels or 'boundary_cross_entropy' not in kinds,
                    f'stages[{i}].subvoxels',
                    '0 with boundary_cross_entropy, which looks at neighbouring voxels',
                ),
                (0 <= stage.centred <= 1, f'stages[{i}].centred', '0 to 1'),
                (0 <= stage.labelled <= 1, f'stages[{i}].labelled', '0 to 1'),
                (stage.learning_rate > 0, f'stages[{i}].learning_rate', 'above 0'),
                (stage.norm in _NORMS, f'stages[{i}].norm', f'one of {", ".join(_NORMS)}'),
            ]
        for holds, key, expected in checks:
            if not holds:
                raise SettingsError(f'{key} in the training config: expected {expected}')

    @property
    def steps(self) -> int:
        """Steps of all stages together."""
        return sum(stage.steps for stage in self.stages)

    def options(self, stage: Stage) -> SynthesisOptions:
        """Return how a stage's images are made."""
        options: SynthesisOptions = _build(
            SynthesisOptions, {**vars(self.synthesis), **stage.synthesis}, 'stages.synthesis.', ''
        )
        return options

    def to_toml(self) -> str:
        """Write the config so that `read_config` reads it back."""
        import tomli_w

        return tomli_w.dumps(_plain(asdict(self)))


_SOURCES = ('label_maps', 'table', 'bids', 'folder')
_PRECISIONS = ('auto', 'float32', 'mixed_bfloat16', 'mixed_float16')
_NORMS = ('batch', 'group', 'none')
# Networks that may compute on places of several voxels.
_ON_PLACES = ('meshnet', 'light_unet')


def read_config(path: str | Path, changes: Sequence[str] = ()) -> TrainConfig:
    """Read a training config.

    Parameters
    ----------
    path : path
        A TOML file. A relative folder of label maps is looked up from the current folder.
    changes : sequence of str
        ``KEY=VALUE``, the key with dots (``stages.0.steps=10``), the value as in TOML; what is
        no TOML value is taken as text.

    Returns
    -------
    TrainConfig

    Raises
    ------
    SettingsError
        For a file that cannot be read, a key that is not known, a value of the wrong kind.
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise SettingsError(
            f'{path}: training config cannot be read ({error.strerror})'
        ) from error
    except ValueError as error:
        raise SettingsError(f'{path}: is not TOML ({error})') from error
    for change in changes:
        _apply(content, change)
    config: TrainConfig = _build(TrainConfig, content, '', path)
    return config


def _apply(content: dict[str, Any], change: str) -> None:
    """Put one ``KEY=VALUE`` into the file's content."""
    key, sign, text = change.partition('=')
    if not sign or not key.strip():
        raise SettingsError(f'--set {change}: expected KEY=VALUE, as in --set stages.0.steps=10')
    try:
        value = tomllib.loads(f'value = {text}')['value']
    except ValueError:
        value = text.strip()
    *parents, last = key.strip().split('.')
    where: Any = content
    try:
        for part in parents:
            where = where[int(part)] if isinstance(where, list) else where.setdefault(part, {})
        where[int(last) if isinstance(where, list) else last] = value
    except (IndexError, TypeError, ValueError, AttributeError) as error:
        raise SettingsError(f'--set {change}: the config has no such place ({error})') from error


def _build(kind: Any, content: Any, place: str, path: Path | str) -> Any:
    """Return the dataclass of a table; every key must be one of its fields."""
    if not isinstance(content, dict):
        raise SettingsError(f'{_of(path)}{place.rstrip(".")} is {content!r}; expected a table')
    hints = typing.get_type_hints(kind)
    names = [item.name for item in fields(kind)]
    values = {}
    for key, value in content.items():
        if key not in names:
            hint = suggestion(key, names, place)
            raise SettingsError(f'{_of(path)}{place}{key} is no key of a training config; {hint}')
        values[key] = _value(hints[key], value, f'{place}{key}', path)
    return kind(**values)


def _value(hint: Any, value: Any, place: str, path: Path | str) -> Any:
    if is_dataclass(hint):
        return _build(hint, value, f'{place}.', path)
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)[0]
        if not isinstance(value, list):
            raise SettingsError(f'{_of(path)}{place} is {value!r}; expected a list')
        return tuple(_value(inner, item, f'{place}[{i}]', path) for i, item in enumerate(value))
    plain = typing.get_origin(hint) or hint
    if plain is float and type(value) is int:
        value = float(value)
    if type(value) is not plain:
        raise SettingsError(
            f'{_of(path)}{place} is {value!r}; expected {getattr(plain, "__name__", plain)}'
        )
    return value


def _of(path: Path | str) -> str:
    return f'{path}: ' if path else 'training config: '


def _plain(value: Any) -> Any:
    """Turn tuples into lists: TOML knows no others."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value

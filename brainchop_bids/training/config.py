"""Training configs: TOML files that are read into frozen dataclasses.

All keys but the source of the data have defaults; ``recipes/README.md`` explains them. An unknown
key is an error, which names the most similar known one.
"""

import math
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from ..image.cleanup import Cleanup, MaskRule
from ..image.normalise import Normalization
from ..image.smooth import Smoothing
from ..inference.localise.frames import SIDE
from ..inference.localise.orientation import VIEWS
from ..models.spec import MODEL_NAME
from ..system.errors import SettingsError
from ..system.toml import parse_value, read_toml
from .augment.transforms import AugmentationOptions
from .choices import Count, Positive, require_known, suggestion
from .inherit import inherit
from .options import (
    CardOptions,
    DataOptions,
    InitOptions,
    LossOptions,
    NetworkOptions,
    OptimizerOptions,
    Stage,
    SynthesisOptions,
    ValidationOptions,
)

_Options = typing.TypeVar('_Options')
# Whether it holds, the key, and what was expected.
Check = tuple[bool, str, str]


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run.

    Parameters
    ----------
    seed : int
        Seed of all random numbers.
    workers : int
        Processes that make images; 0 takes all processors but one.
    precision : str
        A dtype policy of Keras: ``'float32'``, ``'mixed_bfloat16'``, ``'mixed_float16'``; or
        ``'auto'``, the faster of the first two on this machine, see
        `brainchop_bids.training.devices.configure_keras`.
    checkpoint_every : int
        Steps between checkpoints, log rows and validations.
    validation_cubes : int
        Number of held-out cubes that are scored at each checkpoint; if nothing is held out,
        they are taken from the training data.
    devices : int
        GPUs that share each batch; 0 takes all.
    """

    seed: Count = 0
    workers: Count = 0
    precision: str = 'float32'
    checkpoint_every: Positive = 100
    validation_cubes: Count = 4
    devices: Count = 1
    data: DataOptions = field(default_factory=DataOptions)
    model: NetworkOptions = field(default_factory=NetworkOptions)
    init: InitOptions = field(default_factory=InitOptions)
    loss: LossOptions = field(default_factory=LossOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    validation: ValidationOptions = field(default_factory=ValidationOptions)
    synthesis: SynthesisOptions = field(default_factory=SynthesisOptions)
    augmentation: AugmentationOptions = field(default_factory=AugmentationOptions)
    card: CardOptions = field(default_factory=CardOptions)
    stages: tuple[Stage, ...] = (Stage(),)

    def __post_init__(self) -> None:
        """Check all values that would only fail later.

        Raises
        ------
        SettingsError
            If a value cannot be used; the message names its key.
        """
        from .losses.registry import LOSSES

        if not self.loss.terms:
            require_known('loss.kind', self.loss.kind, LOSSES)
        rules: tuple[tuple[str, Callable[[Any], object], Any], ...] = (
            ('data.normalization', Normalization.parse, self.data.normalization),
            ('card.components', Cleanup.parse, self.card.components or 'largest'),
            ('card.smooth', Smoothing.from_dict, self.card.smooth),
            ('card.mask', MaskRule.from_dict, self.card.mask),
        )
        for key, parse, rule in rules:
            try:
                parse(rule)
            except SettingsError as error:
                raise SettingsError(f'{key} in the training config: {error}') from error
        checks = [*self._data_checks(), *self._run_checks(), *self._network_checks()]
        for i in range(len(self.stages)):
            checks += self._stage_checks(i)
        for holds, key, expected in checks:
            if not holds:
                raise SettingsError(f'{key} in the training config: expected {expected}')

    def _data_checks(self) -> list[Check]:
        data = self.data
        given = [f'data.{key}' for key in _SOURCES if getattr(data, key)]
        sources = ', '.join(f'data.{key}' for key in _SOURCES)
        return [
            (
                len(given) == 1,
                'data',
                f'exactly one of {sources}; given: {", ".join(given) or "none"}',
            ),
            (
                len(set(data.channels)) == len(data.channels) > 0,
                'data.channels',
                'suffixes, each once',
            ),
            (
                self.localises or data.channels[:1] == ('T1w',),
                'data.channels',
                'T1w first, whose grid is used',
            ),
            (
                not (data.label_maps or self.localises) or len(data.channels) == 1,
                'data.channels',
                'one channel, where images are made from label maps, and for localisers',
            ),
            (
                self.localises or not data.normalization.startswith('window'),
                'data.normalization',
                'another rule than window, since conforming changes intensities; window is for '
                f'card.task = "{LOCALISE}"',
            ),
        ]

    def _run_checks(self) -> list[Check]:
        validation = self.validation
        return [
            (
                MODEL_NAME.fullmatch(self.card.name) is not None,
                'card.name',
                'letters, digits, - and _, since it names a folder',
            ),
            (self.precision in _PRECISIONS, 'precision', f'one of {", ".join(_PRECISIONS)}'),
            (
                validation.every % self.checkpoint_every == 0,
                'validation.every',
                'a multiple of checkpoint_every',
            ),
            (
                not validation.patience or validation.every > 0,
                'validation.patience',
                '0, or validation.every above 0',
            ),
            (bool(self.stages), 'stages', 'at least one [[stages]]'),
            (
                not self.init.freeze or bool(self.init.model),
                'init.freeze',
                'nothing without init.model, since random weights would be kept',
            ),
        ]

    def _network_checks(self) -> list[Check]:
        model = self.model
        architectures = ', '.join(_WITH_SPACE_TO_DEPTH)
        return [
            (bool(model.widths), 'model.widths', 'at least one number'),
            (model.space_to_depth in (1, 2), 'model.space_to_depth', '1 or 2'),
            (
                model.space_to_depth == 1 or model.architecture in _WITH_SPACE_TO_DEPTH,
                'model.space_to_depth',
                f'1, or one of {architectures} as model.architecture',
            ),
            (bool(model.dilations), 'model.dilations', 'at least one number'),
            (
                self.localises == (model.architecture == LOCATOR),
                'model.architecture',
                f'{LOCATOR} with card.task = "{LOCALISE}", and with no other task',
            ),
            (
                not (self.localises and self.validation.every),
                'validation.every',
                f'0 with card.task = "{LOCALISE}", whose frames are scored at each checkpoint',
            ),
        ]

    def _stage_checks(self, number: int) -> list[Check]:
        stage, key = self.stages[number], f'stages[{number}]'
        # Refuses unknown keys.
        self.options(stage)
        if not isinstance(stage.cube, int) and len(stage.cube) != 3:
            return [(False, f'{key}.cube', 'one side, or three')]
        kinds = [term.kind for term in self.loss.terms] or [self.loss.kind]
        if self.localises:
            return [
                (stage.cube == SIDE, f'{key}.cube', f'{SIDE}, the side of the frames'),
                (stage.stride == 1, f'{key}.stride', '1'),
                (not stage.subvoxels, f'{key}.subvoxels', '0'),
                (stage.norm in ('batch', 'fixed'), f'{key}.norm', 'batch or fixed'),
                self._after_batch(number),
            ]
        even = stage.stride in (1, 2) and not any(side % stage.stride for side in stage.shape)
        return [
            (
                # Layers that a stage of stride 2 leaves out would be lost.
                number == 0 or stage.stride <= self.stages[number - 1].stride,
                f'{key}.stride',
                '1, as in the stage before',
            ),
            (even, f'{key}.stride', '1, or 2 with an even cube'),
            (
                0 <= stage.subvoxels < self.model.space_to_depth**3,
                f'{key}.subvoxels',
                '0, or less than the voxels of a block (model.space_to_depth)',
            ),
            (
                not stage.subvoxels or 'boundary_cross_entropy' not in kinds,
                f'{key}.subvoxels',
                '0 with boundary_cross_entropy, which looks at neighbouring voxels',
            ),
            (stage.norm in _NORMS, f'{key}.norm', f'one of {", ".join(_NORMS)}'),
            self._after_batch(number),
        ]

    def _after_batch(self, number: int) -> Check:
        """Return the check of ``norm = "fixed"``, which needs statistics of the stage before."""
        before = self.stages[number - 1].norm if number else ''
        return (
            self.stages[number].norm != 'fixed' or before in ('batch', 'fixed'),
            f'stages[{number}].norm',
            'batch or fixed in the stage before, for fixed',
        )

    @property
    def localises(self) -> bool:
        """Whether a localiser is trained, on frames of volumes."""
        return self.card.task == LOCALISE

    def classes_of(self, organs: int) -> int:
        """Return the network's number of classes for a table of ``organs`` labels."""
        return 1 + len(VIEWS) if self.localises else organs

    @property
    def steps(self) -> int:
        """Steps of all stages together."""
        return sum(stage.steps for stage in self.stages)

    def options(self, stage: Stage) -> SynthesisOptions:
        """Return the synthesis options of a stage: those of the run, with the stage's changes."""
        options: SynthesisOptions = _build(
            SynthesisOptions, {**vars(self.synthesis), **stage.synthesis}, 'stages.synthesis.'
        )
        return options

    def to_toml(self) -> str:
        """Return the config as TOML that `read_training_config` reads back."""
        import tomli_w

        return tomli_w.dumps(_plain(asdict(self)))


# Task and architecture of localisers.
LOCALISE, LOCATOR = 'localise', 'locator'
_SOURCES = ('label_maps', 'table', 'bids', 'folder')
_PRECISIONS = ('auto', 'float32', 'mixed_bfloat16', 'mixed_float16')
_NORMS = ('batch', 'fixed', 'group', 'none')
# Architectures that can compute on blocks of several voxels.
_WITH_SPACE_TO_DEPTH = ('meshnet', 'light_unet')


def read_training_config(path: str | Path, changes: Sequence[str] = ()) -> TrainConfig:
    """Read a training config.

    Parameters
    ----------
    path : path
        A TOML file. Relative paths in it are relative to the current folder.
    changes : sequence of str
        ``KEY=VALUE``, with dots in the key (``stages.0.steps=10``) and a TOML value; anything
        else is taken as text.

    Returns
    -------
    TrainConfig

    Raises
    ------
    SettingsError
        If the file cannot be read, a key is unknown or a value is of the wrong type.
    ModelError
        If ``init.model`` is not found or cannot be read, see
        `brainchop_bids.training.inherit.inherit`.
    """
    path = Path(path)
    content = read_toml(path)
    for change in changes:
        _set_key(content, change)
    content = inherit(content)
    try:
        config: TrainConfig = _build(TrainConfig, content, '')
    except SettingsError as error:
        raise SettingsError(f'{path}: {error}') from error
    return config


def read_options(
    kind: type[_Options], content: dict[str, Any], changes: Sequence[str], table: str
) -> _Options:
    """Build one table of a config.

    Parameters
    ----------
    kind : type
        Dataclass of the table.
    content : dict
        Keys and values.
    changes : sequence of str
        ``TABLE.KEY=VALUE``.
    table : str
        Name of the table.

    Returns
    -------
    object of ``kind``

    Raises
    ------
    SettingsError
        If a key is unknown, a value is of the wrong type, or a change is of another table.
    """
    whole: dict[str, Any] = {table: dict(content)}
    for change in changes:
        _set_key(whole, change)
    if others := sorted(set(whole) - {table}):
        raise SettingsError(f'--set {others[0]}...: expected keys of {table} here')
    options: _Options = _build(kind, whole[table], f'{table}.')
    return options


def _set_key(content: dict[str, Any], change: str) -> None:
    """Put one ``KEY=VALUE`` into the file's content."""
    key, sign, text = change.partition('=')
    if not sign or not key.strip():
        raise SettingsError(f'--set {change}: expected KEY=VALUE, as in --set stages.0.steps=10')
    *parents, last = key.strip().split('.')
    table: Any = content
    try:
        for part in parents:
            table = table[int(part)] if isinstance(table, list) else table.setdefault(part, {})
        table[int(last) if isinstance(table, list) else last] = parse_value(text)
    except (IndexError, TypeError, ValueError, AttributeError) as error:
        raise SettingsError(f'--set {change}: the config has no such place ({error})') from error


def _build(kind: Any, content: Any, place: str) -> Any:
    """Build a dataclass from a table, whose keys must all be fields."""
    if not isinstance(content, dict):
        raise SettingsError(f'{place.rstrip(".")} is {content!r}; expected a table')
    hints = typing.get_type_hints(kind, include_extras=True)
    names = [item.name for item in fields(kind)]
    values = {}
    for key, value in content.items():
        if key not in names:
            hint = suggestion(key, names, place)
            raise SettingsError(f'{place}{key} is not a key of training configs; {hint}')
        values[key] = _value(hints[key], value, f'{place}{key}')
    return kind(**values)


def _value(hint: Any, value: Any, place: str) -> Any:
    if is_dataclass(hint):
        return _build(hint, value, f'{place}.')
    if typing.get_origin(hint) is typing.Annotated:
        hint, limits = typing.get_args(hint)
        value = _value(hint, value, place)
        if not limits.holds(value):
            raise SettingsError(f'{place} is {value!r}; expected {limits}')
        return value
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)[0]
        if not isinstance(value, list):
            raise SettingsError(f'{place} is {value!r}; expected a list')
        return tuple(_value(inner, item, f'{place}[{i}]') for i, item in enumerate(value))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        # A number or a list.
        lists = [kind for kind in typing.get_args(hint) if typing.get_origin(kind) is tuple]
        others = [kind for kind in typing.get_args(hint) if kind not in lists]
        return _value((lists if isinstance(value, list) else others)[0], value, place)
    plain = typing.get_origin(hint) or hint
    if plain is float and type(value) is int:
        value = float(value)
    if type(value) is not plain or (plain is float and not math.isfinite(value)):
        raise SettingsError(f'{place} is {value!r}; expected {getattr(plain, "__name__", plain)}')
    return value


def _plain(value: Any) -> Any:
    """Turn tuples into lists, the only sequences of TOML."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value

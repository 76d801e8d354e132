"""Everything a run must know about a model, read from its folder without loading Keras.

A folder may carry ``brainchop.json``, by which its author says what
the file formats have no place for. Every key may be left out::

    {
      "name": "my_model",                          name in messages, file names, records
      "task": "tissue",                            what it is for, in brainchop-models list
      "normalization": "quantile:0.02:0.98:clip",  or {"kind": "quantile", "low": 0.02, ...}
      "labels": [                                  all classes in order, or some by "index"
        {"index": 0, "name": "background", "abbreviation": "BG", "color": "#000000",
         "mapping": 0, "freesurfer": 0}
      ],
      "inputs": ["T1w", "T2w"],                    BIDS suffixes of the channels, if several
      "components": "per-label+min:20",            connected components that stay, see Cleanup
      "smooth": {"voxels": 0.6},                   labels that agree with those around, see
                                                   Smoothing; by default as the network has them
      "mask": {"exclude": [3], "open_mm": 4, "closing_mm": 8},  brain mask, see MaskRule; null
                                                   where the labels cover no whole brain
      "derived": {"tissue": "aseg_to_tissue"},     segmentations with the labels of a packaged
                                                   model, by a table of FreeSurfer's codes
      "status": "experimental",                    how far to trust it, in reports and records
      "license": "MIT",
      "citation": "..."
    }

What it leaves out comes from the folder's ``colormap*.json`` (or ``labels.json`` with
``colorLUT.json``), then from the packaged registry of known models, which is keyed by the
checksum of the weights so that a renamed folder is still recognised, then from defaults.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ..image.cleanup import Cleanup, MaskRule
from ..image.normalise import Normalization
from ..image.smooth import Smoothing
from ..system.errors import BrainchopError, ModelError
from .derived import Derived, read_derived
from .formats import read_network
from .formats.files import read_json
from .labelfiles import OVERRIDES, folder_labels, override_labels
from .labels import Label, LabelTable, with_facts
from .levels import slab_values
from .registry import known_facts

# Of models that we write; a folder of somebody else's may be called otherwise.
MODEL_NAME = re.compile(r'[A-Za-z0-9][\w.-]*')
# Networks for smaller inputs than a conformed volume have learnt from cubes.
_WHOLE = 256
_FLUID = 24
_OVERRIDE_KEYS = {
    'name', 'task', 'normalization', 'inputs', 'labels', 'components', 'smooth', 'mask',
    'derived', 'status', 'license', 'citation',
}  # fmt: skip
_Rule = TypeVar('_Rule', Smoothing, MaskRule)


@dataclass(frozen=True)
class ModelSpec:
    """What a model is and how it wants to be used.

    Parameters
    ----------
    name : str
        Its name; the folder's unless the folder or the registry says otherwise.
    slug : str
        Letters and digits of the folder's name, for ``seg-<slug>``.
    folder : Path
        Where it lies.
    format : str
        As `read_network` calls it.
    sha256 : str
        Checksum over the names and contents of all files the model consists of.
    weights_sha256 : str
        Checksum of the weights' bytes alone: the key in the registry.
    labels : LabelTable
        One label for each class.
    normalization : Normalization
        How its input is scaled.
    input_shape : tuple of int
        The spatial shape its file names, in voxels; networks without fixed shapes run on any.
    in_channels : int
        Channels of the input, 1 for a T1w.
    channels : int
        The widest hidden layer.
    values : float
        See `Network.values`: it decides how much memory a run needs.
    held : float
        See `Network.held`: so does it, where all layers are computed as one graph.
    parameters : int or None
        Number of weights.
    products : float
        Multiplications for each voxel.
    reach : tuple of (int, int) or None
        See `Network.reach`.
    chain : bool
        See `Network.streams`: it needs the memory of one layer only.
    slabs : float
        See `brainchop_bids.models.levels.slab_values`.
    cleanup : str
        Which connected components stay, see `Cleanup`.
    inputs : tuple of str
        BIDS suffix of each channel, the first one's ``'T1w'``.
    smoothing : Smoothing
        How labels are smoothed before anything else.
    covers_brain : bool
        Whether a brain mask can be made of the labels.
    mask_rule : MaskRule
        How it is made.
    derived : tuple of Derived
        Segmentations that follow from its labels by a table.
    task : str or None
        What it is for: tissue, structures, parcellation, skull-strip.
    status : str or None
        A word such as ``'experimental'``, where its authors say that it is not finished.
    license, citation : str or None
        As its authors demand.
    known : bool
        Whether the registry knows these weights.
    warnings : tuple of str
        What had to be assumed.
    """

    name: str
    slug: str
    folder: Path
    format: str
    sha256: str
    weights_sha256: str
    labels: LabelTable
    normalization: Normalization
    input_shape: tuple[int, ...]
    in_channels: int
    channels: int
    parameters: int | None
    values: float = 0.0
    held: float = 0.0
    products: float = 0.0
    reach: tuple[int, int] | None = None
    chain: bool = True
    slabs: float = 0.0
    cleanup: str = 'largest'
    inputs: tuple[str, ...] = ('T1w',)
    smoothing: Smoothing = field(default_factory=Smoothing)
    covers_brain: bool = True
    mask_rule: MaskRule = field(default_factory=MaskRule)
    derived: tuple[Derived, ...] = ()
    task: str | None = None
    status: str | None = None
    license: str | None = None
    citation: str | None = None
    known: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def block(self) -> tuple[int, ...] | None:
        """The cube that the network was trained on; None for one that takes whole volumes."""
        return self.input_shape if max(self.input_shape) < _WHOLE else None

    @property
    def strips_skulls(self) -> bool:
        """Whether the brain mask is what the model is for."""
        return self.task == 'skull-strip' and self.covers_brain

    @property
    def intracranial(self) -> bool:
        """Whether its labels have the fluid around a whole brain: FreeSurfer's code 24."""
        return self.covers_brain and any(label.freesurfer == _FLUID for label in self.labels)

    def label_values(self, codes: str) -> tuple[int, ...]:
        """Return the value of each label in images, see `LabelTable.values`.

        Raises
        ------
        ModelError
            Where a label has no such code.
        """
        try:
            return self.labels.values(codes)
        except ModelError as error:
            raise ModelError(f'{self.name}: {error}') from error

    def labels_by_value(self, codes: str) -> dict[int, Label]:
        """Return the labels by the value that they have in images, see `label_values`."""
        return dict(zip(self.label_values(codes), self.labels, strict=True))

    @property
    def classes(self) -> int:
        """Number of classes, background included."""
        return len(self.labels)


def mask_owner(specs: Sequence[ModelSpec]) -> ModelSpec | None:
    """Choose the model whose brain mask a run writes.

    Parameters
    ----------
    specs : sequence of ModelSpec
        The models of the run.

    Returns
    -------
    ModelSpec or None
        The first one for skull-stripping, else the first one whose labels cover the brain.
    """
    covering = [spec for spec in specs if spec.covers_brain]
    return next((spec for spec in covering if spec.strips_skulls), next(iter(covering), None))


def load_spec(folder: str | Path) -> ModelSpec:
    """Read a model folder's facts and check that its files are whole.

    Parameters
    ----------
    folder : path
        A folder that `read_network` reads.

    Returns
    -------
    ModelSpec

    Raises
    ------
    ModelError
        For a missing or short weight file, JSON that is not understood, labels or colours whose
        number differs from the network's classes, and what `read_network` refuses.
    """
    # Nodes of a workflow run in folders of their own.
    folder = Path(folder).absolute()
    network, form = read_network(folder)
    slug = re.sub(r'[^A-Za-z0-9]', '', folder.resolve().name)
    if not slug:
        raise ModelError(
            f'{folder}: its name has no letter or digit to name outputs by; rename it'
        )
    if network.classes == 1 and network.ops[-1].is_activation('softmax'):
        raise network.fault('has a softmax over one channel, which is 1 everywhere')
    # One channel tells what is not background.
    classes = max(network.classes, 2)
    weights_sha256 = network.weights_sha256()
    overrides = _overrides(folder)
    known = known_facts(weights_sha256)
    facts = {**known, **overrides}
    table, label_files, warnings = _labels(folder, classes, known, overrides)
    if 'normalization' not in facts:
        warnings.append(
            f'{folder}: nothing says how its input is normalised; taking minmax '
            f'(say otherwise in its {OVERRIDES} or with --normalization)'
        )
    mask = facts.get('mask', {})
    files = [*network.files, *label_files]
    if overrides:
        files.append(folder / OVERRIDES)
    x, y, z = (size or _WHOLE for size in network.input_shape)
    return ModelSpec(
        name=str(facts.get('name', folder.resolve().name)),
        slug=slug,
        folder=folder,
        format=form,
        sha256=_sha256(files, folder),
        weights_sha256=weights_sha256,
        labels=table,
        normalization=_normalization(folder, facts.get('normalization', 'minmax')),
        input_shape=(x, y, z),
        in_channels=network.in_channels,
        channels=network.width,
        parameters=network.parameters,
        values=network.values,
        held=network.held,
        products=network.products,
        reach=network.reach,
        chain=network.streams,
        slabs=slab_values(network),
        cleanup=_cleanup(folder, facts.get('components', 'largest'), len(table)),
        inputs=_inputs(folder, facts.get('inputs'), network.in_channels),
        smoothing=_rule(folder, Smoothing, facts.get('smooth', {})),
        covers_brain=mask is not None,
        mask_rule=_mask_rule(folder, {} if mask is None else mask, len(table)),
        derived=read_derived(facts.get('derived', {}), table, folder / OVERRIDES),
        task=facts.get('task'),
        status=facts.get('status') or None,
        license=facts.get('license'),
        citation=facts.get('citation'),
        known=bool(known),
        warnings=tuple(warnings),
    )


def _overrides(folder: Path) -> dict[str, Any]:
    path = folder / OVERRIDES
    if not path.exists():
        return {}
    content = read_json(path)
    if not isinstance(content, dict) or set(content) - _OVERRIDE_KEYS:
        found = sorted(set(content) - _OVERRIDE_KEYS) if isinstance(content, dict) else content
        raise ModelError(f'{path}: has {found}; expected keys of {sorted(_OVERRIDE_KEYS)}')
    for key in ('name', 'task', 'status', 'license', 'citation'):
        if not isinstance(content.get(key, ''), str):
            raise ModelError(f'{path}: "{key}" is {content[key]!r}; expected text')
    return content


def _labels(
    folder: Path, classes: int, known: dict[str, Any], overrides: dict[str, Any]
) -> tuple[LabelTable, list[Path], list[str]]:
    """Return the label table, the files it came from, and what had to be assumed."""
    warnings: list[str] = []
    facts = known.get('labels')
    try:
        table, files = folder_labels(folder, classes)
    except ModelError as error:
        # The registry knows better than a colour table that belongs to another network.
        if facts is None:
            raise
        table, files = None, []
        warnings.append(f'{error}; using the labels known for these weights')
    if table is not None:
        table = with_facts(table, facts) if facts else table
    elif facts is not None:
        table = LabelTable(facts)
    if table is None:
        table = LabelTable.from_names(['background', *(f'Label-{i}' for i in range(1, classes))])
        if len(overrides.get('labels', ())) < classes:
            warnings.append(
                f'{folder}: has no labels; its {classes} classes are called Label-1, '
                f'Label-2, ... (name them in colormap.json or {OVERRIDES})'
            )
    if 'labels' in overrides:
        table = override_labels(table, overrides['labels'], folder / OVERRIDES)
    return table, files, warnings


def _normalization(folder: Path, value: Any) -> Normalization:
    try:
        if isinstance(value, str):
            return Normalization.parse(value)
        return Normalization.from_dict(value)
    except (BrainchopError, TypeError) as error:
        raise ModelError(f'{folder / OVERRIDES}: its normalization: {error}') from error


def _inputs(folder: Path, suffixes: Any, channels: int) -> tuple[str, ...]:
    if suffixes is None and channels == 1:
        return ('T1w',)
    if (
        not isinstance(suffixes, list)
        or len(suffixes) != channels
        or not all(
            isinstance(name, str) and re.fullmatch('[A-Za-z0-9]+', name) for name in suffixes
        )
        or suffixes[0] != 'T1w'
        or len(set(suffixes)) < channels
    ):
        raise ModelError(
            f'{folder}: takes {channels} channel{"s" * (channels > 1)}, "inputs" in its '
            f'{OVERRIDES} is {suffixes!r}; expected so many BIDS suffixes, T1w first'
        )
    return tuple(suffixes)


def _cleanup(folder: Path, rule: Any, classes: int) -> str:
    try:
        cleanup = Cleanup.parse(str(rule))
    except BrainchopError as error:
        raise ModelError(f'{folder / OVERRIDES}: {error}') from error
    if max((label for group in cleanup.groups for label in group), default=0) >= classes:
        raise ModelError(
            f'{folder / OVERRIDES}: components {rule!r} names labels beyond {classes - 1}'
        )
    return str(cleanup)


def _rule(folder: Path, kind: type[_Rule], content: Any) -> _Rule:
    try:
        return kind.from_dict(content)
    except BrainchopError as error:
        raise ModelError(f'{folder / OVERRIDES}: {error}') from error


def _mask_rule(folder: Path, content: Any, classes: int) -> MaskRule:
    rule = _rule(folder, MaskRule, content)
    if max(rule.exclude, default=0) >= classes:
        raise ModelError(f'{folder / OVERRIDES}: mask exclude names labels beyond {classes - 1}')
    return rule


def _sha256(files: list[Path], folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(files):
        data = path.read_bytes()
        # Length before content: bytes moved from one file to the next make another model.
        digest.update(f'{path.relative_to(folder).as_posix()}\0{len(data)}\0'.encode())
        digest.update(data)
    return digest.hexdigest()

"""Facts on a model, read from its folder without loading Keras.

A folder may have a ``brainchop.json`` with facts for which the file formats have no place. All
keys are optional::

    {
      "name": "my_model",                          name in messages, file names, records
      "task": "tissue",                            task, in brainchop-models list; "localise" for
                                                   models of brainchop-localise
      "normalization": "quantile:0.02:0.98:clip",  or {"kind": "quantile", "low": 0.02, ...}
      "labels": [                                  all classes in order, or some by "index"
        {"index": 0, "name": "background", "abbreviation": "BG", "color": "#000000",
         "mapping": 0, "freesurfer": 0}
      ],
      "inputs": ["T1w", "T2w"],                    BIDS suffixes of the channels, if several
      "components": "per-label+min:20",            connected components to keep, see Cleanup
      "smooth": {"voxels": 0.6},                   smoothing of labels, see Smoothing; by default
                                                   none
      "mask": {"exclude": [3], "open_mm": 4, "closing_mm": 8},  brain mask, see MaskRule; null
                                                   if the labels do not cover the brain
      "derived": {"tissue": "aseg_to_tissue"},     segmentations with the labels of a packaged
                                                   model, by a table of FreeSurfer's codes
      "localiser": "locate-brain",                 model that finds the organ of the labels, see
                                                   brainchop_bids.inference.localise; by default
                                                   none
      "confidence": {"least": 0.8, "dice": 0.7, "hits": 17, "bad": 18, "false_alarms": 1,
                     "good": 12},                  limit of the flag low-confidence, see
                                                   ConfidenceLimit; by default none
      "status": "experimental",                    maturity, in reports and records
      "license": "MIT",
      "citation": "..."
    }

Other facts are taken from the folder's ``colormap*.json`` (or ``labels.json`` with
``colorLUT.json``), then from the packaged registry of known models, whose key is the checksum of
the weights, so that renamed folders are recognised, then from defaults.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..image.cleanup import MaskRule
from ..image.normalise import Normalization
from ..image.smooth import Smoothing
from ..system.errors import ModelError
from ..system.text import printable
from .confidence_limit import ConfidenceLimit
from .derived import Derived, read_derived
from .formats import read_model
from .formats.files import read_bytes
from .labelfiles import OVERRIDES, folder_labels, override_labels
from .labels import Label, LabelTable, add_known_codes
from .levels import slab_values
from .network import Network
from .overrides import input_suffixes, processing_rules, read_overrides
from .registry import facts_by_shapes, known_facts

if TYPE_CHECKING:
    from .formats.onnx_graph import OnnxGraph

# Names of models that are written; other folders may have any name.
MODEL_NAME = re.compile(r'[A-Za-z0-9][\w.-]*')
# Side of conformed volumes. Networks for smaller inputs were trained on cubes.
_WHOLE = 256
# Formats whose weights may be without a description.
_STATES = ('pth', 'pt', 'safetensors')
# FreeSurfer's code of the fluid around the brain.
_FLUID = 24
# Task of models that find where an organ is.
LOCALISE = 'localise'


@dataclass(frozen=True)
class ModelSpec:
    """Facts on a model.

    Parameters
    ----------
    name : str
        Name; by default that of the folder.
    slug : str
        Letters and digits of the folder's name, for ``seg-<slug>``.
    folder : Path
        Model folder.
    format : str
        File format, see `read_model`.
    sha256 : str
        Checksum over names and contents of all files of the model.
    weights_sha256 : str
        Checksum of the weights, the key in the registry.
    labels : LabelTable
        One label for each class.
    normalization : Normalization
        Normalisation of the input.
    input_shape : tuple of int
        Spatial shape of the input in the file, voxels; 256 for open axes.
    in_channels : int
        Channels of the input, 1 for a T1w.
    channels : int
        Width of the widest hidden layer.
    values : float
        See `Network.values`, for the memory of computing layer by layer.
    held : float
        See `Network.held`, for the memory of computing all layers as one graph.
    parameters : int or None
        Number of weights.
    products : float
        Multiplications for each voxel of the input.
    reach : tuple of (int, int) or None
        See `Network.reach`.
    chain : bool
        See `Network.streams`; such networks need the memory of one layer only.
    slabs : float
        See `brainchop_bids.models.levels.slab_values`.
    graph : OnnxGraph or None
        The network, if only OpenVINO can run it.
    cleanup : str
        Connected components to keep, see `Cleanup`.
    inputs : tuple of str
        BIDS suffix of each channel, ``'T1w'`` first.
    smoothing : Smoothing
        Smoothing of labels before all other steps.
    covers_brain : bool
        Whether a brain mask can be made from the labels.
    mask_rule : MaskRule
        Rule for the brain mask.
    fluid : bool or None
        Whether the labels have the fluid around the brain; None if the model does not say so.
    derived : tuple of Derived
        Segmentations that follow from the labels by a table.
    localiser : str or None
        Name of the model that finds the organ of the labels.
    confidence : ConfidenceLimit or None
        Least confidence of labels that are not flagged.
    task : str or None
        Task: tissue, structures, parcellation, skull-strip, localise.
    status : str or None
        A word such as ``'experimental'``.
    license, citation : str or None
        Licence and reference.
    known : bool
        Whether the weights are in the registry.
    warnings : tuple of str
        Assumptions that had to be made, one line each.
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
    graph: 'OnnxGraph | None' = None
    cleanup: str = 'largest'
    inputs: tuple[str, ...] = ('T1w',)
    smoothing: Smoothing = field(default_factory=Smoothing)
    covers_brain: bool = True
    mask_rule: MaskRule = field(default_factory=MaskRule)
    fluid: bool | None = None
    derived: tuple[Derived, ...] = ()
    localiser: str | None = None
    confidence: ConfidenceLimit | None = None
    task: str | None = None
    status: str | None = None
    license: str | None = None
    citation: str | None = None
    known: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def block(self) -> tuple[int, ...] | None:
        """Shape of the cubes that the network was trained on; None for whole volumes."""
        fixed = self.graph is not None and self.graph.fixed
        return self.input_shape if fixed or max(self.input_shape) < _WHOLE else None

    @property
    def localises(self) -> bool:
        """Whether it finds where an organ is, in small frames, and labels no voxels."""
        return self.task == LOCALISE

    @property
    def strips_skulls(self) -> bool:
        """Whether the task of the model is the brain mask."""
        return self.task == 'skull-strip' and self.covers_brain

    @property
    def intracranial(self) -> bool:
        """Whether the labels cover the brain and the fluid around it.

        If the model does not say so, they do if one has FreeSurfer's code 24.
        """
        fluid = self.fluid
        if fluid is None:
            fluid = any(label.freesurfer == _FLUID for label in self.labels)
        return self.covers_brain and fluid

    @property
    def caution(self) -> str:
        """What is said after the work of a model with a status; empty if it has none."""
        if self.status is None:
            return ''
        return f'the model {self.name} is {self.status}: look at the labels before you use them'

    def label_values(self, codes: str) -> tuple[int, ...]:
        """Return the value of each label in images, see `LabelTable.values`."""
        return self.labels.values(codes)

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
        The first model for skull-stripping, else the first one whose labels cover the brain.
    """
    covering = [spec for spec in specs if spec.covers_brain]
    return next((spec for spec in covering if spec.strips_skulls), next(iter(covering), None))


def load_spec(folder: str | Path) -> ModelSpec:
    """Read the facts on a model, and check that its files are complete.

    Parameters
    ----------
    folder : path
        A model folder, see `read_model`.

    Returns
    -------
    ModelSpec

    Raises
    ------
    ModelError
        If files are missing, damaged or invalid, the numbers of labels and classes differ, or
        `read_model` refuses the network.
    """
    # Nodes of a workflow run in folders of their own.
    folder = Path(folder).absolute()
    network, form = read_model(folder)
    slug = _slug(folder)
    classes = _count_classes(network)
    weights_sha256 = network.weights_sha256()
    overrides = read_overrides(folder)
    known = known_facts(weights_sha256)
    bare = form in _STATES and not known
    like = _facts_of_alike(network) if bare and isinstance(network, Network) else {}
    facts = {**known, **like, **overrides}
    table, label_files, warnings = _labels(folder, classes, known or like, overrides)
    if like:
        warnings.append(
            f'{folder}: has the layers of {like["like"]}; assuming its activations, labels and '
            'normalisation'
        )
    if 'normalization' not in facts:
        warnings.append(
            f'{folder}: the normalisation of its input is unknown; assuming minmax '
            f'(set it in {OVERRIDES} or with --normalization)'
        )
    files = [*network.files, *label_files]
    if overrides:
        files.append(folder / OVERRIDES)
    return ModelSpec(
        name=facts.get('name') or printable(folder.resolve().name),
        slug=slug,
        folder=folder,
        format=form,
        sha256=_sha256(files, folder),
        weights_sha256=weights_sha256,
        labels=table,
        inputs=input_suffixes(folder, facts.get('inputs'), network.in_channels),
        **_network_facts(network),
        **processing_rules(folder, facts, classes),
        derived=read_derived(facts.get('derived', {}), table, folder / OVERRIDES),
        localiser=facts.get('localiser'),
        task=facts.get('task'),
        status=facts.get('status') or None,
        license=facts.get('license'),
        citation=facts.get('citation'),
        known=bool(known),
        warnings=tuple(warnings),
    )


def load_segmenter(folder: str | Path) -> ModelSpec:
    """Read the facts on a model that is to label voxels, as `load_spec`.

    Raises
    ------
    ModelError
        As `load_spec`, and if the model is a localiser.
    """
    spec = load_spec(folder)
    if spec.localises:
        raise ModelError(
            f'{spec.folder}: is a localiser, which labels no voxels; run it with '
            'brainchop-localise, and segment with a model of another task '
            '(brainchop-models list)'
        )
    return spec


def _facts_of_alike(network: Network) -> dict[str, Any]:
    """Return what the registry's facts on a model with the same layers say of other weights."""
    shapes = [op.weights['kernel'].shape for op in network.ops if 'kernel' in op.weights]
    # With more files there is a description.
    facts = facts_by_shapes(shapes) if len(network.files) == 1 else {}
    keys = ('normalization', 'labels', 'mask', 'localiser', 'task')
    return (
        {'like': facts['name'], **{key: facts[key] for key in keys if key in facts}}
        if facts
        else {}
    )


def _slug(folder: Path) -> str:
    slug = re.sub(r'[^A-Za-z0-9]', '', folder.resolve().name)
    if not slug:
        raise ModelError(
            f'{folder}: its name has no letter or digit for the names of outputs; rename it'
        )
    return slug


def _count_classes(network: 'Network | OnnxGraph') -> int:
    if (
        isinstance(network, Network)
        and network.classes == 1
        and network.ops[-1].is_activation('softmax')
    ):
        raise network.fault('has a softmax over one channel, which is 1 everywhere')
    # A single channel is the foreground.
    return max(network.classes, 2)


def _network_facts(network: 'Network | OnnxGraph') -> dict[str, Any]:
    """Return the fields of `ModelSpec` that depend on the network alone."""
    facts = {
        'input_shape': tuple(size or _WHOLE for size in network.input_shape),
        'in_channels': network.in_channels,
        'channels': network.width,
        'parameters': network.parameters,
        'products': network.products,
    }
    if not isinstance(network, Network):
        return {**facts, 'chain': False, 'graph': network}
    return {
        **facts,
        'values': network.values,
        'held': network.held,
        'reach': network.reach,
        'chain': network.streams,
        'slabs': slab_values(network),
    }


def _labels(
    folder: Path, classes: int, known: dict[str, Any], overrides: dict[str, Any]
) -> tuple[LabelTable, list[Path], list[str]]:
    """Return the label table, its files, and warnings on assumptions."""
    warnings: list[str] = []
    facts = known.get('labels')
    try:
        table, files = folder_labels(folder, classes)
    except ModelError as error:
        # The registry is better than the colour table of another network.
        if facts is None:
            raise
        table, files = None, []
        warnings.append(f'{error}; using the labels known for these weights')
    if table is not None:
        table = add_known_codes(table, facts) if facts else table
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


def _sha256(files: list[Path], folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(files):
        data = read_bytes(path)
        # Length before content: bytes moved from one file to the next make another model.
        digest.update(f'{path.relative_to(folder).as_posix()}\0{len(data)}\0'.encode())
        digest.update(data)
    return digest.hexdigest()

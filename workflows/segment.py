"""The graph of one T1w scan."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from brainchop_bids.image.conform import CONFORMED_SHAPE, ConformOptions
from brainchop_bids.inference.options import InferenceOptions
from brainchop_bids.inference.plan import make_plan
from brainchop_bids.interfaces import (
    Conform,
    DeriveLabels,
    KeepComponents,
    LabelVolumes,
    RecodeLabels,
    ResampleLabels,
    ResampleProbabilities,
    Segment,
)
from brainchop_bids.models import DEFAULT_MODEL
from brainchop_bids.models.spec import ModelSpec, load_spec
from brainchop_bids.models.zoo import find_model
from brainchop_bids.settings import WORKER_GB
from brainchop_bids.system.resources import Granted, available_memory

from .boilerplate import REFERENCES, describe_methods

# Peak resident memory of the steps in numpy, GB, as benchmarks/README.md tells: a worker holds
# some 0.2 GB of imports, and a 0.7 mm scan twice as floats.
_CONFORM_GB = 0.8
_LABELS_GB = 0.8
# Outputs of `DeriveLabels`.
_DERIVED = ('dsegs', 'dsegs_conform', 'volumes')


def init_single_scan_wf(
    *,
    model: ModelSpec | str | Path = DEFAULT_MODEL,
    conform: ConformOptions | None = None,
    inference: InferenceOptions | None = None,
    mem_gb: float | None = None,
    normalization: str | None = None,
    components: str | None = None,
    resample: str = 'linear',
    label_codes: str = 'model',
    probseg: bool = False,
    frame: int | None = None,
    omp_nthreads: int = 1,
    name: str = 'single_scan_wf',
) -> LiterateWorkflow:
    """Build a workflow that segments one T1w scan.

    It writes nothing outside its work folder, so it can be a node of any Nipype pipeline.

    Parameters
    ----------
    model : ModelSpec or str or Path
        A model, its folder or its name; by default the packaged one.
    conform : ConformOptions, optional
        Target grid and interpolation; by default those of ``mri_convert -c``.
    inference : InferenceOptions, optional
        How the network is run.
    mem_gb : float, optional
        Memory that may be used; by default what the machine grants.
    normalization : str, optional
        Replaces the model's own, e.g. ``'quantile:0.02:0.98:clip'``.
    components : str, optional
        Which connected components stay, see `Cleanup`; by default as the model has it.
    resample : {'linear', 'nearest'}
        How labels return to the scan's own grid.
    label_codes : {'model', 'freesurfer'}
        Values of labels in images and tables: the model's own, or FreeSurfer's codes.
    probseg : bool
        Also make a probability map of each label.
    frame : int, optional
        Frame of a file with several.
    omp_nthreads : int
        Threads of one node.
    name : str
        Name of the workflow.

    Returns
    -------
    LiterateWorkflow
        Inputs and outputs are those of its ``inputnode`` and ``outputnode``:

    Inputs
    ------
    t1w
        A T1-weighted scan: NIfTI-1/2 or MGH/MGZ.
    channels
        List of the other scans, for models that take several.

    Outputs
    -------
    t1w_conform
        The conformed scan, uint8, LIA.
    dseg_conform, brain_mask_conform
        Labels and brain mask in the conformed grid.
    dseg, brain_mask
        Labels and brain mask in the scan's own grid.
    volumes
        TSV of index, name, voxels and volume (mm^3) of each label.
    probseg
        With ``probseg``: one probability map a label, in the scan's own grid.
    derived_dsegs, derived_dsegs_conform, derived_volumes
        Where the model has ``derived``: label images and tables of volumes of these
        segmentations, in their order.
    intracranial_volume
        Where the model labels the fluid around the brain: in mm^3.
    warnings, engine, normalization, removed_components, removed_voxels, brain_volume
        What happened on the way.
    conform_cost, segment_cost, components_cost, resample_cost
        Wall time (s) and peak resident memory (MB) of the steps.

    Raises
    ------
    ModelError
        If the model is missing or incomplete, or a label has no such code.

    Examples
    --------
    >>> wf = init_single_scan_wf(model='tissue', mem_gb=4)
    >>> wf.inputs.inputnode.t1w = 'sub-01_T1w.nii.gz'
    >>> sorted(wf.outputs.outputnode.get())[:5]
    ['brain_mask', 'brain_mask_conform', 'brain_volume', 'components_cost', 'conform_cost']
    >>> wf.run()  # doctest: +SKIP
    """
    spec = model if isinstance(model, ModelSpec) else load_spec(find_model(str(model)))
    workflow = LiterateWorkflow(name=name)
    workflow.__desc__ = describe_methods([spec], components, resample, inference)
    workflow.__postdesc__ = REFERENCES
    several = ['channels'] if spec.in_channels > 1 else []
    inputnode = pe.Node(niu.IdentityInterface(fields=['t1w', *several]), name='inputnode')
    shared = ['t1w_conform', 'warnings', 'conform_cost']
    fields = model_outputs(spec, probseg=probseg)
    outputnode = pe.Node(niu.IdentityInterface(fields=[*shared, *fields]), name='outputnode')
    conform_node = init_conform_node(conform, frame=frame, omp_nthreads=omp_nthreads)
    segmentation = init_segmentation_wf(
        spec=spec,
        inference=inference,
        memory=None if mem_gb is None else Granted(mem_gb, 'mem_gb'),
        normalization=normalization,
        components=components,
        resample=resample,
        label_codes=label_codes,
        probseg=probseg,
        omp_nthreads=omp_nthreads,
    )
    # fmt: off
    workflow.connect([
        (inputnode, conform_node, [('t1w', 'in_file')]),
        (inputnode, segmentation, [(name, f'inputnode.{name}') for name in ('t1w', *several)]),
        (conform_node, segmentation, [('out_file', 'inputnode.t1w_conform')]),
        (conform_node, outputnode, [('out_file', 't1w_conform'),
                                    ('warnings', 'warnings'),
                                    ('cost', 'conform_cost')]),
        connect_all(segmentation, outputnode, [(field, field) for field in fields]),
    ])
    # fmt: on
    return workflow


def init_conform_node(
    conform: ConformOptions | None = None,
    *,
    frame: int | None = None,
    omp_nthreads: int = 1,
    name: str = 'conform',
) -> pe.Node:
    """Build the node that conforms a scan, once for all models.

    Parameters
    ----------
    conform : ConformOptions, optional
        Target grid and interpolation; by default those of ``mri_convert -c``.
    frame : int, optional
        Frame of a file with several.
    omp_nthreads : int
        Threads of the node.
    name : str
        Its name.

    Returns
    -------
    Node
        Of `Conform`.
    """
    options = conform or ConformOptions()
    node = pe.Node(
        Conform(**options.to_dict(), num_threads=omp_nthreads),
        name=name,
        mem_gb=_CONFORM_GB,
    )
    if frame is not None:
        node.inputs.frame = frame
    return node


def init_segmentation_wf(
    *,
    spec: ModelSpec,
    inference: InferenceOptions | None = None,
    memory: Granted | None = None,
    normalization: str | None = None,
    components: str | None = None,
    resample: str = 'linear',
    label_codes: str = 'model',
    probseg: bool = False,
    processes: Path | None = None,
    omp_nthreads: int = 1,
    name: str = 'segmentation_wf',
) -> LiterateWorkflow:
    """Build the workflow of one model on a conformed scan.

    Parameters
    ----------
    spec : ModelSpec
        The model.
    memory : Granted, optional
        Memory that the network may use; by default what the machine grants.
    inference, normalization, components, resample, label_codes, probseg, omp_nthreads
        As for `init_single_scan_wf`.
    processes : Path, optional
        Of `staying_processes`, which then run the network.
    name : str
        Name of the workflow.

    Returns
    -------
    LiterateWorkflow
        Its ``inputnode`` takes ``t1w`` and ``t1w_conform``, and ``channels`` where the model
        takes several scans; its ``outputnode`` has `model_outputs`.

    Raises
    ------
    ModelError
        If a label has no such code.
    """
    values = spec.label_values(label_codes)
    workflow = LiterateWorkflow(name=name)
    fields = ['t1w', 't1w_conform'] + ['channels'] * (spec.in_channels > 1)
    inputnode = pe.Node(niu.IdentityInterface(fields=fields), name='inputnode')
    outputnode = pe.Node(
        niu.IdentityInterface(fields=model_outputs(spec, probseg=probseg)), name='outputnode'
    )
    segment = init_segment_node(
        spec,
        inference or InferenceOptions(),
        memory or available_memory(),
        normalization=normalization,
        processes=processes,
        omp_nthreads=omp_nthreads,
    )
    keep_components = _init_components_node(spec, components)
    resample_dseg = _init_resample_node('dseg', resample)
    resample_mask = _init_resample_node('brain_mask', resample)
    names = {value: label.name for value, label in spec.labels_by_value(label_codes).items()}
    volumes = pe.Node(LabelVolumes(labels=names), name='volumes', mem_gb=_LABELS_GB)
    dseg, dseg_conform = resample_dseg, keep_components
    if label_codes != 'model':
        # Only now: interpolation breaks ties by the labels' order.
        dseg = _recode(workflow, resample_dseg, 'dseg', values)
        dseg_conform = _recode(workflow, keep_components, 'dseg_conform', values)
    # fmt: off
    workflow.connect([
        (inputnode, segment, [('t1w_conform', 'in_file')]),
        (inputnode, resample_dseg, [('t1w', 'reference')]),
        (inputnode, resample_mask, [('t1w', 'reference')]),
        (segment, keep_components, [('out_file', 'in_file')]),
        (keep_components, resample_dseg, [('out_file', 'in_file')]),
        (keep_components, resample_mask, [('out_mask', 'in_file')]),
        (dseg, volumes, [('out_file', 'in_file')]),
        (dseg, outputnode, [('out_file', 'dseg')]),
        (dseg_conform, outputnode, [('out_file', 'dseg_conform')]),
    ])
    # fmt: on
    _connect_outputs(workflow, spec)
    if spec.in_channels > 1:
        _add_channels(workflow, spec, omp_nthreads)
    if spec.derived:
        _add_derived(workflow, spec)
    if probseg:
        _add_probabilities(workflow)
    return workflow


def _connect_outputs(workflow: LiterateWorkflow, spec: ModelSpec) -> None:
    """Connect all nodes but those of the final labels with the outputnode."""
    names = ('segment', 'keep_components', 'resample_dseg', 'resample_mask', 'volumes')
    segment, keep_components, resample_dseg, resample_mask, volumes = (
        workflow.get_node(name) for name in names
    )
    outputnode = workflow.get_node('outputnode')
    # fmt: off
    workflow.connect([
        (segment, outputnode, [('engine', 'engine'),
                               ('normalization', 'normalization'),
                               ('cost', 'segment_cost')]),
        (keep_components, outputnode, [('out_mask', 'brain_mask_conform'),
                                       ('removed_components', 'removed_components'),
                                       ('removed_voxels', 'removed_voxels'),
                                       ('cost', 'components_cost')]),
        (resample_dseg, outputnode, [('cost', 'resample_cost')]),
        (resample_mask, outputnode, [('out_file', 'brain_mask')]),
        (volumes, outputnode, [('out_file', 'volumes'), ('brain_volume', 'brain_volume')]),
    ])
    # fmt: on
    if spec.covers_brain:
        workflow.connect(resample_mask, 'out_file', volumes, 'mask')
    if spec.intracranial:
        workflow.connect(keep_components, 'intracranial_volume', outputnode, 'intracranial_volume')


def init_segment_node(
    spec: ModelSpec,
    inference: InferenceOptions,
    memory: Granted,
    *,
    normalization: str | None = None,
    processes: Path | None = None,
    omp_nthreads: int = 1,
    name: str = 'segment',
) -> pe.Node:
    """Build the node that runs the network on a conformed scan.

    Parameters
    ----------
    spec, inference, memory, normalization, processes, omp_nthreads
        As for `init_segmentation_wf`.
    name : str
        Name of the node.

    Returns
    -------
    Node
        Of `Segment`. Its ``mem_gb`` is what the network is planned to need on a whole volume.

    Raises
    ------
    MemoryLimitError
        Where the model does not fit.
    """
    plan = make_plan(spec, CONFORMED_SHAPE, memory, inference)
    node = pe.Node(
        Segment(
            computed_by=inference.engine,
            device=inference.device,
            precision=inference.precision,
            crop=inference.crop,
            memory_gb=memory.amount,
            model=str(spec.folder),
            model_sha256=spec.sha256,
            num_threads=omp_nthreads,
            environ={'OMP_NUM_THREADS': str(omp_nthreads)},
        ),
        name=name,
        mem_gb=WORKER_GB + (plan.need_gb if processes is None else 0),
        n_procs=omp_nthreads,
    )
    if inference.tta:
        node.inputs.tta = True
    # Undefined where they are not given: they then do not count in Nipype's hash.
    given = {
        'subvolumes': inference.subvolumes,
        'normalization': normalization,
        'processes': None if processes is None else str(processes),
    }
    node.inputs.trait_set(**{name: value for name, value in given.items() if value is not None})
    return node


def _init_components_node(spec: ModelSpec, components: str | None) -> pe.Node:
    return pe.Node(
        KeepComponents(
            rule=components or spec.cleanup,
            mask_rule=spec.mask_rule.to_dict(),
            intracranial=spec.intracranial,
            out_file='dseg_conform.nii',
            out_mask='brain_mask_conform.nii',
        ),
        name='keep_components',
        mem_gb=_LABELS_GB,
    )


def _init_resample_node(field: str, method: str) -> pe.Node:
    # Files are called as the outputs: whoever copies several into one folder loses none.
    return pe.Node(
        ResampleLabels(method=method, out_file=f'{field}.nii'),
        name=f'resample_{field.removeprefix("brain_")}',
        mem_gb=_LABELS_GB,
    )


def _recode(
    workflow: LiterateWorkflow, source: pe.Node, field: str, values: Sequence[int]
) -> pe.Node:
    """Add the node that gives labels other values, and return it."""
    node = pe.Node(
        RecodeLabels(values=list(values), out_file=f'{field}.nii'),
        name=f'recode_{field}',
        mem_gb=_LABELS_GB,
    )
    workflow.connect(source, 'out_file', node, 'in_file')
    return node


def _add_channels(workflow: LiterateWorkflow, spec: ModelSpec, omp_nthreads: int) -> None:
    """Conform the other scans of models that take several."""
    inputnode, segment = (workflow.get_node(name) for name in ('inputnode', 'segment'))
    channels = pe.Node(niu.Merge(spec.in_channels - 1), name='channels', mem_gb=0.1)
    for place, suffix in enumerate(spec.inputs[1:]):
        conform = init_conform_node(omp_nthreads=omp_nthreads, name=f'conform_{suffix}')
        workflow.connect(inputnode, ('channels', _nth, place), conform, 'in_file')
        workflow.connect(inputnode, 't1w_conform', conform, 'reference')
        workflow.connect(conform, 'out_file', channels, f'in{place + 1}')
    workflow.connect(channels, 'out', segment, 'channels')


def _add_derived(workflow: LiterateWorkflow, spec: ModelSpec) -> None:
    """Derive segmentations from labels, which are not recoded yet."""
    derive = _derive_node(spec)
    workflow.connect(workflow.get_node('resample_dseg'), 'out_file', derive, 'dseg')
    workflow.connect(workflow.get_node('keep_components'), 'out_file', derive, 'dseg_conform')
    for field in _DERIVED:
        workflow.connect(derive, field, workflow.get_node('outputnode'), f'derived_{field}')


def _add_probabilities(workflow: LiterateWorkflow) -> None:
    """Write a probability map of each label in the scan's own grid."""
    inputnode, segment = (workflow.get_node(name) for name in ('inputnode', 'segment'))
    segment.inputs.probabilities = True
    resample_probseg = pe.Node(ResampleProbabilities(), name='resample_probseg', mem_gb=_LABELS_GB)
    workflow.connect(segment, 'out_probabilities', resample_probseg, 'in_file')
    workflow.connect(inputnode, 't1w', resample_probseg, 'reference')
    workflow.connect(resample_probseg, 'out_files', workflow.get_node('outputnode'), 'probseg')


def _derive_node(spec: ModelSpec) -> pe.Node:
    """Build the node that makes what follows from a model's labels by tables."""
    return pe.Node(
        DeriveLabels(
            names=[derived.name for derived in spec.derived],
            values=[list(derived.values) for derived in spec.derived],
            labels=[
                {label.index: label.name for label in derived.labels} for derived in spec.derived
            ],
        ),
        name='derive',
        mem_gb=_LABELS_GB,
    )


def _nth(items: list[str], place: int) -> str:
    """Choose from a list; Nipype calls it by its source."""
    return items[place]


def model_outputs(spec: ModelSpec, *, probseg: bool = False) -> list[str]:
    """Return what the workflow of one model has in its ``outputnode``."""
    images = ['dseg_conform', 'brain_mask_conform', 'dseg', 'brain_mask']
    facts = ['engine', 'normalization', 'removed_components', 'removed_voxels']
    costs = [f'{step}_cost' for step in ('segment', 'components', 'resample')]
    fields = [*images, 'volumes', *facts, 'brain_volume', *costs] + ['probseg'] * probseg
    fields += [f'derived_{field}' for field in _DERIVED] if spec.derived else []
    return fields + ['intracranial_volume'] * spec.intracranial


def connect_all(source: LiterateWorkflow, target: pe.Node, pairs: list[tuple[str, str]]) -> Any:
    """Return a connection of a workflow's outputnode to a node."""
    return (source, target, [(f'outputnode.{out}', into) for out, into in pairs])

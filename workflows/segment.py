"""Workflow of one T1w scan."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from brainchop_bids.image.conform import ConformOptions
from brainchop_bids.inference.localise.localisation import find_localiser
from brainchop_bids.inference.options import InferenceOptions
from brainchop_bids.interfaces import (
    MoveBorder,
    RecodeLabels,
)
from brainchop_bids.models import DEFAULT_MODEL
from brainchop_bids.models.spec import ModelSpec, load_spec
from brainchop_bids.models.zoo import find_model
from brainchop_bids.system.resources import Granted, available_memory

from .boilerplate import describe_methods, list_references
from .extras import DERIVED, add_channels, add_derived, add_probabilities, add_uncertainty
from .literate import LiterateWorkflow
from .nodes import (
    LABELS_GB,
    init_components_node,
    init_conform_node,
    init_resample_node,
    init_segment_node,
    init_volumes_node,
)


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
    border: float = 0.0,
    probseg: bool = False,
    uncertainty: bool = False,
    localiser: str = 'auto',
    frame: int | None = None,
    omp_nthreads: int = 1,
    name: str = 'single_scan_wf',
) -> LiterateWorkflow:
    """Build a workflow that segments one T1w scan.

    It writes nothing outside its work folder and can be part of any Nipype pipeline.

    Parameters
    ----------
    model : ModelSpec or str or Path
        A model, its folder or its name; by default the packaged model.
    conform : ConformOptions, optional
        Target grid and interpolation; by default those of ``mri_convert -c``.
    inference : InferenceOptions, optional
        Options of the network.
    mem_gb : float, optional
        Memory that may be used, GB; by default as much as the machine grants.
    normalization : str, optional
        Normalization that replaces the model's own, e.g. ``'quantile:0.02:0.98:clip'``.
    components : str, optional
        Rule for connected components, see `Cleanup`; by default the model's own.
    resample : {'linear', 'nearest'}
        Interpolation of labels on the scan's own grid.
    label_codes : {'model', 'freesurfer'}
        Values of labels in images and tables: the model's own, or FreeSurfer's codes.
    border : float
        Distance in mm by which the brain mask grows, or shrinks if it is negative.
    probseg : bool
        Also make a probability map of each label.
    uncertainty : bool
        Also make a map of the entropy of the probabilities and, with test-time augmentation, of
        the spread over the scan and its mirror image.
    localiser : str
        What finds the brain first, so that labels far from it are removed: ``'auto'`` for what
        the model names, a name or a folder, or ``'none'``.
    frame : int, optional
        Frame of a 4-D file, counted from 0.
    omp_nthreads : int
        Number of threads of one node.
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
        Other scans of the same head, as a list, for models that take several.

    Outputs
    -------
    t1w_conform
        The conformed scan, uint8, LIA.
    dseg_conform, brain_mask_conform
        Labels and brain mask in the conformed grid.
    dseg, brain_mask
        Labels and brain mask in the scan's own grid.
    brain_mask_plain
        With ``border``: the brain mask in the scan's own grid before it was grown or shrunk.
    volumes
        TSV of index, name, voxels and volume (mm^3) of each label.
    probseg
        With ``probseg``: a probability map for each label, in the scan's own grid.
    uncertainty, uncertainty_conform
        With ``uncertainty``: entropy and perhaps spread (nats) in the scan's own grid and in the
        conformed one.
    derived_dsegs, derived_dsegs_conform, derived_volumes
        If the model has ``derived``: label images and tables of volumes of these
        segmentations, in the same order.
    localisation
        With a localiser: where the brain was found, see `Localisation.to_dict`.
    intracranial_volume
        If the model labels the fluid around the brain: intracranial volume, mm^3.
    brain_measures
        Volumes with FreeSurfer's names that the labels of the model give, mm^3, see
        `brainchop_bids.models.brain_measures`.
    warnings, segment_warnings, engine, normalization, removed_components, removed_voxels, \
    brain_volume
        Facts about the run: warnings about the scan, warnings about model and labels; volumes in
        mm^3.
    conform_cost, segment_cost, components_cost, resample_cost
        Wall time (s) and peak resident memory (MB) of the steps.

    Raises
    ------
    ModelError
        If the model is missing or incomplete.

    Examples
    --------
    >>> wf = init_single_scan_wf(model='tissue', mem_gb=4)
    >>> wf.inputs.inputnode.t1w = 'sub-01_T1w.nii.gz'
    >>> sorted(wf.outputs.outputnode.get())[:5]
    ['brain_mask', 'brain_mask_conform', 'brain_measures', 'brain_volume', 'components_cost']
    >>> wf.run()  # doctest: +SKIP
    """
    spec = model if isinstance(model, ModelSpec) else load_spec(find_model(str(model)))
    localiser_dir = find_localiser(localiser, [spec])
    workflow = LiterateWorkflow(name=name)
    workflow.__desc__ = describe_methods(
        [spec],
        components,
        resample,
        inference,
        normalization=normalization,
        conform=conform,
        border=border,
        uncertainty=uncertainty,
        localiser=None if localiser_dir is None else load_spec(localiser_dir),
    )
    workflow.__postdesc__ = list_references(workflow.__desc__)
    several = ['channels'] if spec.in_channels > 1 else []
    inputnode = pe.Node(niu.IdentityInterface(fields=['t1w', *several]), name='inputnode')
    shared = ['t1w_conform', 'warnings', 'conform_cost']
    options: dict[str, Any] = {
        'probseg': probseg,
        'uncertainty': uncertainty,
        'border': border,
        'localised': localiser_dir is not None,
    }
    fields = model_outputs(spec, **options)
    outputnode = pe.Node(niu.IdentityInterface(fields=[*shared, *fields]), name='outputnode')
    memory = None if mem_gb is None else Granted(mem_gb, 'mem_gb')
    conform_node = init_conform_node(
        conform, memory=memory, frame=frame, localiser=localiser_dir, omp_nthreads=omp_nthreads
    )
    segmentation = init_segmentation_wf(
        spec=spec,
        inference=inference,
        memory=memory,
        normalization=normalization,
        components=components,
        resample=resample,
        label_codes=label_codes,
        frame=frame,
        omp_nthreads=omp_nthreads,
        **options,
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
    if localiser_dir is not None:
        workflow.connect(conform_node, 'localisation', segmentation, 'inputnode.localisation')
    return workflow


def init_segmentation_wf(
    *,
    spec: ModelSpec,
    inference: InferenceOptions | None = None,
    memory: Granted | None = None,
    normalization: str | None = None,
    components: str | None = None,
    resample: str = 'linear',
    label_codes: str = 'model',
    border: float = 0.0,
    probseg: bool = False,
    uncertainty: bool = False,
    localised: bool = False,
    frame: int | None = None,
    pool: Path | None = None,
    omp_nthreads: int = 1,
    name: str = 'segmentation_wf',
) -> LiterateWorkflow:
    """Build the workflow of one model on a conformed scan.

    Parameters
    ----------
    spec : ModelSpec
        The model.
    memory : Granted, optional
        Memory that the network may use; by default as much as the machine grants.
    inference, normalization, components, resample, label_codes, border, probseg, uncertainty, \
    frame, omp_nthreads
        As for `init_single_scan_wf`.
    localised : bool
        Whether labels far from where the brain was found are removed.
    pool : Path, optional
        Folder that `worker_pool` yields; its processes then run the network.
    name : str
        Name of the workflow.

    Returns
    -------
    LiterateWorkflow
        Its ``inputnode`` takes ``t1w`` and ``t1w_conform``, ``channels`` if the model takes
        several scans, and ``localisation`` if ``localised``; the fields of its ``outputnode`` are
        those of `model_outputs`.
    """
    workflow = LiterateWorkflow(name=name)
    fields = ['t1w', 't1w_conform'] + ['channels'] * (spec.in_channels > 1)
    inputnode = pe.Node(
        niu.IdentityInterface(fields=fields + ['localisation'] * localised), name='inputnode'
    )
    fields = model_outputs(
        spec, probseg=probseg, uncertainty=uncertainty, border=border, localised=localised
    )
    outputnode = pe.Node(niu.IdentityInterface(fields=fields), name='outputnode')
    segment = init_segment_node(
        spec,
        inference or InferenceOptions(),
        memory or available_memory(),
        normalization=normalization,
        pool=pool,
        omp_nthreads=omp_nthreads,
    )
    keep_components = init_components_node(spec, components)
    resample_dseg = init_resample_node('dseg', resample, frame)
    resample_mask = init_resample_node('brain_mask', resample)
    labels = spec.labels_by_value(label_codes)
    volumes = init_volumes_node(spec, label_codes)
    dseg, dseg_conform = resample_dseg, keep_components
    if label_codes != 'model':
        # Recoded after resampling, because interpolation breaks ties by the order of labels.
        dseg = _recode(workflow, resample_dseg, 'dseg', list(labels))
        dseg_conform = _recode(workflow, keep_components, 'dseg_conform', list(labels))
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
    _connect_masks(workflow, border)
    if localised:
        workflow.connect(inputnode, 'localisation', keep_components, 'localisation')
        workflow.connect(keep_components, 'localisation', outputnode, 'localisation')
    if spec.in_channels > 1:
        add_channels(workflow, spec, memory, omp_nthreads)
    if spec.derived:
        add_derived(workflow, spec)
    if probseg:
        add_probabilities(workflow)
    if uncertainty:
        add_uncertainty(workflow)
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
                               ('warnings', 'segment_warnings'),
                               ('confidence', 'confidence'),
                               ('cost', 'segment_cost')]),
        (segment, volumes, [('confidence', 'confidence')]),
        (keep_components, outputnode, [('removed_components', 'removed_components'),
                                       ('removed_voxels', 'removed_voxels'),
                                       ('cost', 'components_cost')]),
        (resample_dseg, outputnode, [('cost', 'resample_cost')]),
        (volumes, outputnode, [('out_file', 'volumes'),
                               ('brain_volume', 'brain_volume'),
                               ('brain_measures', 'brain_measures')]),
    ])
    # fmt: on
    if spec.covers_brain:
        workflow.connect(resample_mask, 'out_file', volumes, 'mask')
    if spec.intracranial:
        workflow.connect(keep_components, 'intracranial_volume', outputnode, 'intracranial_volume')


def _connect_masks(workflow: LiterateWorkflow, border: float) -> None:
    """Connect the masks of both grids with the outputnode, grown or shrunk if asked for."""
    outputnode = workflow.get_node('outputnode')
    for source, output, field in (
        (workflow.get_node('resample_mask'), 'out_file', 'brain_mask'),
        (workflow.get_node('keep_components'), 'out_mask', 'brain_mask_conform'),
    ):
        if not border:
            workflow.connect(source, output, outputnode, field)
            continue
        move = pe.Node(
            MoveBorder(border=border, out_file=f'{field}_border.nii'),
            name=f'border_{field}',
            mem_gb=LABELS_GB,
        )
        workflow.connect(source, output, move, 'in_file')
        workflow.connect(move, 'out_file', outputnode, field)
    if border:
        mask = workflow.get_node('resample_mask')
        workflow.connect(mask, 'out_file', outputnode, 'brain_mask_plain')


def _recode(
    workflow: LiterateWorkflow, source: pe.Node, field: str, values: Sequence[int]
) -> pe.Node:
    """Add a node that changes the values of labels, and return it."""
    node = pe.Node(
        RecodeLabels(values=list(values), out_file=f'{field}.nii'),
        name=f'recode_{field}',
        mem_gb=LABELS_GB,
    )
    workflow.connect(source, 'out_file', node, 'in_file')
    return node


def model_outputs(
    spec: ModelSpec,
    *,
    probseg: bool = False,
    uncertainty: bool = False,
    border: float = 0.0,
    localised: bool = False,
) -> list[str]:
    """Return the fields of the ``outputnode`` of a model's workflow."""
    images = ['dseg_conform', 'brain_mask_conform', 'dseg', 'brain_mask']
    facts = ['engine', 'normalization', 'segment_warnings', 'confidence']
    facts += ['removed_components', 'removed_voxels']
    costs = [f'{step}_cost' for step in ('segment', 'components', 'resample')]
    measured = ['volumes', 'brain_volume', 'brain_measures']
    fields = [*images, *measured, *facts, *costs] + ['probseg'] * probseg
    fields += ['uncertainty', 'uncertainty_conform'] * uncertainty
    fields += ['brain_mask_plain'] * bool(border) + ['localisation'] * localised
    fields += [f'derived_{field}' for field in DERIVED] if spec.derived else []
    return fields + ['intracranial_volume'] * spec.intracranial


def connect_all(source: LiterateWorkflow, target: pe.Node, pairs: list[tuple[str, str]]) -> Any:
    """Return a connection of a workflow's outputnode to a node."""
    return (source, target, [(f'outputnode.{out}', into) for out, into in pairs])

"""The graph of a whole run: every scan by itself, with its figure and its derivatives."""

from collections.abc import Sequence
from pathlib import Path

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from brainchop_bids import __version__
from brainchop_bids.bids.names import scan_node_name
from brainchop_bids.bids.query import Scan, find_siblings
from brainchop_bids.interfaces import (
    AssessQuality,
    DrawLabels,
    DrawScan,
    StripSkull,
    WriteDerivatives,
)
from brainchop_bids.models.spec import ModelSpec
from brainchop_bids.settings import Settings

from .segment import (
    connect_all,
    init_conform_node,
    init_segmentation_wf,
    model_outputs,
)

# Peak resident memory of a step that draws, GB.
_DRAW_GB = 0.6
# Peak resident memory, a 0.7 mm scan of 40 million voxels.
_QUALITY_GB = 0.8


def init_brainchop_wf(
    *,
    settings: Settings,
    work: Sequence[tuple[Scan, Sequence[ModelSpec]]],
    owner: ModelSpec | None,
    processes: Path | None = None,
    name: str | None = None,
) -> LiterateWorkflow:
    """Build the workflow that segments scans and writes their derivatives.

    Parameters
    ----------
    settings : Settings
        Settings of the run.
    work : sequence of (Scan, sequence of ModelSpec)
        Scans to do, and with which models.
    owner : ModelSpec or None
        The model whose brain mask is written, see `mask_owner`.
    processes : Path, optional
        As for `init_segmentation_wf`.
    name : str, optional
        By default it carries the version, because Nipype's cache does not see changed code.

    Returns
    -------
    LiterateWorkflow
        With one independent workflow for each scan.
    """
    name = name or f'brainchop_{__version__.replace(".", "_")}_wf'
    workflow = LiterateWorkflow(name=name, base_dir=str(settings.work_dir))
    for scan, specs in work:
        made = init_scan_wf(
            settings=settings, specs=specs, owner=owner, scan=scan, processes=processes
        )
        workflow.add_nodes([made])
    return workflow


def init_scan_wf(
    *,
    settings: Settings,
    specs: Sequence[ModelSpec],
    owner: ModelSpec | None,
    scan: Scan,
    processes: Path | None = None,
) -> LiterateWorkflow:
    """Build the workflow of one scan of a dataset: one conform, then each model.

    Parameters
    ----------
    settings : Settings
        Settings of the run.
    specs : sequence of ModelSpec
        The models.
    owner : ModelSpec or None
        The model whose brain mask is written.
    scan : Scan
        The scan.
    processes : Path, optional
        As for `init_segmentation_wf`.

    Returns
    -------
    LiterateWorkflow
    """
    workflow = LiterateWorkflow(name=scan_node_name(scan.label))
    conform = init_conform_node(frame=settings.frame, omp_nthreads=settings.omp_nthreads)
    conform.inputs.in_file = str(scan.path)
    draw_scan = pe.Node(DrawScan(scan=str(scan.path)), name='draw_scan', mem_gb=_DRAW_GB)
    if settings.frame is not None:
        draw_scan.inputs.frame = settings.frame
    workflow.connect(conform, 'out_file', draw_scan, 'in_file')
    shared = [
        ('out_file', 't1w_conform'),
        ('warnings', 'warnings'),
        ('cost', 'conform_cost'),
    ]
    for spec in specs:
        model = init_model_wf(
            settings=settings,
            spec=spec,
            scan=scan,
            owns_mask=spec is owner,
            processes=processes,
        )
        pairs = [(out, f'inputnode.{into}') for out, into in shared]
        # fmt: off
        workflow.connect([
            (conform, model, pairs),
            (draw_scan, model, [('figures', 'inputnode.figures')]),
        ])
        # fmt: on
    return workflow


def init_model_wf(
    *,
    settings: Settings,
    spec: ModelSpec,
    scan: Scan,
    owns_mask: bool,
    processes: Path | None = None,
) -> LiterateWorkflow:
    """Build the workflow of one model on one scan, with its figure and its derivatives.

    Parameters
    ----------
    settings : Settings
        Settings of the run.
    spec : ModelSpec
        The model.
    scan : Scan
        The scan.
    owns_mask : bool
        Whether it writes the brain mask.
    processes : Path, optional
        As for `init_segmentation_wf`.

    Returns
    -------
    LiterateWorkflow
        Its ``inputnode`` takes what the conform step gives.
    """
    workflow = LiterateWorkflow(name=f'{spec.slug}_wf')
    inputnode = pe.Node(
        niu.IdentityInterface(fields=['t1w_conform', 'warnings', 'conform_cost', 'figures']),
        name='inputnode',
    )
    others = find_siblings(scan, spec.inputs[1:])
    segmentation_wf = init_segmentation_wf(
        spec=spec,
        inference=settings.inference,
        memory=settings.network_memory,
        normalization=settings.normalization,
        components=settings.components,
        resample=settings.resample,
        label_codes=settings.label_codes,
        probseg=settings.probseg,
        processes=processes,
        omp_nthreads=settings.omp_nthreads,
    )
    segmentation_wf.inputs.inputnode.t1w = str(scan.path)
    if others:
        segmentation_wf.inputs.inputnode.channels = [str(path) for path in others]
    labels = spec.labels_by_value(settings.label_codes)
    colors = {value: label.color for value, label in labels.items()}
    draw_labels = pe.Node(DrawLabels(colors=colors), name='draw_labels', mem_gb=_DRAW_GB)
    quality = init_quality_node(settings=settings, spec=spec, scan=scan)
    write = init_write_node(settings=settings, spec=spec, scan=scan, others=others)
    written = _written(spec, probseg=settings.probseg, mask=owns_mask)
    drawn = [('dseg_conform', 'labels'), ('brain_mask_conform', 'mask')]
    assessed = [('dseg', 'labels'), ('removed_voxels', 'removed_voxels')]
    assessed += [('brain_mask', 'mask')] * spec.covers_brain
    # fmt: off
    workflow.connect([
        (inputnode, segmentation_wf, [('t1w_conform', 'inputnode.t1w_conform')]),
        (inputnode, draw_labels, [('t1w_conform', 'in_file')]),
        (inputnode, quality, [('t1w_conform', 'conformed')]),
        (inputnode, write, [('t1w_conform', 'preproc'),
                            ('warnings', 'warnings'),
                            ('figures', 'scan_figures'),
                            ('conform_cost', 'conform_cost')]),
        connect_all(segmentation_wf, draw_labels, drawn),
        connect_all(segmentation_wf, quality, assessed),
        connect_all(segmentation_wf, write, written),
        (draw_labels, write, [('figures', 'label_figures'), ('cost', 'figures_cost')]),
        (quality, write, [('measures', 'measures'),
                          ('flags', 'flags'),
                          ('cost', 'quality_cost')]),
    ])
    # fmt: on
    if owns_mask and spec.strips_skulls:
        strip_skull = init_strip_node(settings, scan)
        workflow.connect([connect_all(segmentation_wf, strip_skull, [('brain_mask', 'mask')])])
        workflow.connect(strip_skull, 'out_file', write, 'brain')
    return workflow


def _written(spec: ModelSpec, *, probseg: bool, mask: bool) -> list[tuple[str, str]]:
    """Return the outputs of `init_segmentation_wf` that are written, and the inputs they go to."""
    outputs = [field for field in model_outputs(spec) if not field.startswith('brain_mask')]
    pairs = [(field, field) for field in outputs]
    pairs += [('probseg', 'probabilities')] * probseg
    return pairs + [('brain_mask', 'mask')] * mask


def init_strip_node(settings: Settings, scan: Scan) -> pe.Node:
    """Build the node that sets a scan to 0 outside its brain mask.

    Parameters
    ----------
    settings : Settings
        Settings of the run.
    scan : Scan
        The scan.

    Returns
    -------
    Node
        Of `StripSkull`, its mask not yet given.
    """
    node = pe.Node(StripSkull(in_file=str(scan.path)), name='strip_skull', mem_gb=0.8)
    if settings.frame is not None:
        node.inputs.frame = settings.frame
    return node


def init_write_node(
    *, settings: Settings, spec: ModelSpec, scan: Scan, others: Sequence[Path] = ()
) -> pe.Node:
    """Build the node that writes the derivatives of a scan and a model.

    Parameters
    ----------
    settings : Settings
        Settings of the run.
    spec : ModelSpec
        The model.
    scan : Scan
        The scan.
    others : sequence of Path
        Other scans of the head that the model takes.

    Returns
    -------
    Node
        Of `WriteDerivatives`, its images not yet given.
    """
    model = {'Name': spec.name, 'SHA256': spec.sha256, 'Classes': len(spec.labels)}
    if spec.status:
        model['Status'] = spec.status
    return pe.Node(
        WriteDerivatives(
            output_dir=str(settings.output_dir),
            source=scan.relative,
            slug=spec.slug,
            source_file=str(scan.path),
            other_files=[str(path) for path in others],
            recipe=settings.recipe(),
            model=model,
            rule=settings.components or spec.cleanup,
            smoothing=spec.smoothing.to_dict(),
            mask_rule=spec.mask_rule.to_dict() if spec.covers_brain else {},
            abbreviations=[label.abbreviation for label in spec.labels],
            derived={derived.name: derived.table for derived in spec.derived},
        ),
        name='write',
        mem_gb=0.3,
    )


def init_quality_node(*, settings: Settings, spec: ModelSpec, scan: Scan) -> pe.Node:
    """Build the node that measures a scan's quality with a model's labels.

    Parameters
    ----------
    settings : Settings
        Settings of the run.
    spec : ModelSpec
        The model.
    scan : Scan
        The scan.

    Returns
    -------
    Node
        Of `AssessQuality`, its labels not yet given.
    """
    labels = spec.labels_by_value(settings.label_codes)
    node = pe.Node(
        AssessQuality(
            in_file=str(scan.path),
            names={value: label.name for value, label in labels.items()},
            tissues={value: label.mapping for value, label in labels.items() if label.mapping},
            covers_brain=spec.covers_brain,
        ),
        name='quality',
        mem_gb=_QUALITY_GB,
    )
    if settings.frame is not None:
        node.inputs.frame = settings.frame
    return node


def write_graph(workflow: LiterateWorkflow, folder: Path) -> Path:
    """Draw the workflow (with Graphviz, where it is installed).

    Parameters
    ----------
    workflow : LiterateWorkflow
        What to draw.
    folder : Path
        Where to.

    Returns
    -------
    Path
        The picture, or the ``.dot`` file where Graphviz is not installed.
    """
    path = folder / 'workflow.dot'
    try:
        workflow.write_graph(dotfilename=str(path), graph2use='colored', format='svg')
    except OSError:
        # Without Graphviz the description is there, and any other machine can draw it.
        return path
    return path.with_suffix('.svg')

"""Workflow of a whole run: one independent workflow for each scan, down to its derivatives."""

from collections.abc import Callable, Sequence
from pathlib import Path

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from brainchop_bids import __version__
from brainchop_bids.bids.names import scan_node_name
from brainchop_bids.bids.query import Scan, find_siblings
from brainchop_bids.inference.localise.localisation import find_localiser, restricts
from brainchop_bids.interfaces import (
    DrawLabels,
    DrawScan,
)
from brainchop_bids.models.spec import ModelSpec
from brainchop_bids.settings import Settings

from .literate import LiterateWorkflow
from .nodes import init_conform_node, init_quality_node, init_strip_node, init_write_node
from .segment import (
    connect_all,
    init_segmentation_wf,
    model_outputs,
)

# Peak resident memory of a step that draws figures, GB.
_DRAW_GB = 0.6


def init_brainchop_wf(
    *,
    settings: Settings,
    work: Sequence[tuple[Scan, Sequence[ModelSpec]]],
    owner: ModelSpec | None,
    pool: Path | None = None,
    name: str | None = None,
    on_failure: Callable[[Scan, Exception], None] | None = None,
) -> LiterateWorkflow:
    """Build the workflow that segments scans and writes their derivatives.

    Parameters
    ----------
    settings : Settings
        Settings of the run.
    work : sequence of (Scan, sequence of ModelSpec)
        Scans to process, each with its models.
    owner : ModelSpec or None
        The model whose brain mask is written, see `mask_owner`.
    pool : Path, optional
        As for `init_segmentation_wf`.
    name : str, optional
        Name of the workflow. The default has the package's version in it, because Nipype's cache
        does not notice changed code.
    on_failure : callable, optional
        Called with each scan whose workflow cannot be built, for instance because its file was
        removed in the meantime, and with the exception; the others are built. Without it the
        first exception is raised.

    Returns
    -------
    LiterateWorkflow
        With one independent workflow for each scan.
    """
    name = name or f'brainchop_{__version__.replace(".", "_")}_wf'
    workflow = LiterateWorkflow(name=name, base_dir=str(settings.work_dir))
    for scan, specs in work:
        try:
            made = init_scan_wf(settings=settings, specs=specs, owner=owner, scan=scan, pool=pool)
        except Exception as error:
            if on_failure is None:
                raise
            on_failure(scan, error)
        else:
            workflow.add_nodes([made])
    return workflow


def init_scan_wf(
    *,
    settings: Settings,
    specs: Sequence[ModelSpec],
    owner: ModelSpec | None,
    scan: Scan,
    pool: Path | None = None,
) -> LiterateWorkflow:
    """Build the workflow of one scan of a dataset: conform it once, then run each model.

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
    pool : Path, optional
        As for `init_segmentation_wf`.

    Returns
    -------
    LiterateWorkflow
    """
    workflow = LiterateWorkflow(name=scan_node_name(scan.label))
    localiser = find_localiser(settings.localiser, specs, settings.models_dir)
    conform = init_conform_node(
        settings.conform,
        scan=scan.path,
        memory=settings.network_memory,
        frame=settings.frame,
        localiser=localiser,
    )
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
            localised=restricts(localiser, settings.localiser, spec, settings.models_dir),
            pool=pool,
        )
        pairs = [(out, f'inputnode.{into}') for out, into in shared]
        # fmt: off
        workflow.connect([
            (conform, model, pairs),
            (draw_scan, model, [('figures', 'inputnode.figures')]),
        ])
        # fmt: on
        if 'localisation' in model.inputs.inputnode.get():
            workflow.connect(conform, 'localisation', model, 'inputnode.localisation')
    return workflow


def init_model_wf(
    *,
    settings: Settings,
    spec: ModelSpec,
    scan: Scan,
    owns_mask: bool,
    localised: bool = False,
    pool: Path | None = None,
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
        True if this model's brain mask is written.
    localised : bool
        Whether labels far from where the brain was found are removed.
    pool : Path, optional
        As for `init_segmentation_wf`.

    Returns
    -------
    LiterateWorkflow
        Its ``inputnode`` takes the outputs of the conform step.
    """
    workflow = LiterateWorkflow(name=f'{spec.slug}_wf')
    fields = ['t1w_conform', 'warnings', 'conform_cost', 'figures']
    inputnode = pe.Node(
        niu.IdentityInterface(fields=fields + ['localisation'] * localised), name='inputnode'
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
        border=settings.border,
        probseg=settings.probseg,
        uncertainty=settings.uncertainty,
        localised=localised,
        frame=settings.frame,
        pool=pool,
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
    written += [('uncertainty', 'uncertainty')] * settings.uncertainty
    written += [('localisation', 'localisation')] * localised
    drawn = [('dseg_conform', 'labels'), ('brain_mask_conform', 'mask')]
    drawn += [('uncertainty_conform', 'uncertainty')] * settings.uncertainty
    assessed = [('dseg', 'labels'), ('removed_voxels', 'removed_voxels')]
    # Measures and flags are those of the brain, whatever border its mask is given.
    brain = 'brain_mask_plain' if settings.border else 'brain_mask'
    assessed += [(brain, 'mask')] * spec.covers_brain
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
    if localised:
        workflow.connect(inputnode, 'localisation', segmentation_wf, 'inputnode.localisation')
    if owns_mask and spec.strips_skulls:
        strip_skull = init_strip_node(settings, scan)
        workflow.connect([connect_all(segmentation_wf, strip_skull, [('brain_mask', 'mask')])])
        workflow.connect(strip_skull, 'out_file', write, 'brain')
    return workflow


def _written(spec: ModelSpec, *, probseg: bool, mask: bool) -> list[tuple[str, str]]:
    """Return pairs of an output of `init_segmentation_wf` and the `WriteDerivatives` input."""
    outputs = [field for field in model_outputs(spec) if not field.startswith('brain_mask')]
    pairs = [(field, field) for field in outputs]
    pairs += [('probseg', 'probabilities')] * probseg
    return pairs + [('brain_mask', 'mask')] * mask


def write_graph(workflow: LiterateWorkflow, folder: Path) -> Path:
    """Draw the workflow with Graphviz, if that is installed.

    Parameters
    ----------
    workflow : LiterateWorkflow
        The workflow.
    folder : Path
        Folder for the drawing.

    Returns
    -------
    Path
        The drawing, or the ``.dot`` file if Graphviz is not installed.
    """
    path = folder / 'workflow.dot'
    try:
        workflow.write_graph(dotfilename=str(path), graph2use='colored', format='svg')
    except OSError:
        # Another machine with Graphviz can draw the description.
        return path
    return path.with_suffix('.svg')

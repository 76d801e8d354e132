"""The graph of a whole run: every scan by itself, with its figure and its derivatives."""

from pathlib import Path

from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from brainchop_bids import __version__
from brainchop_bids.bids.query import Scan
from brainchop_bids.interfaces import Mosaic, WriteDerivatives
from brainchop_bids.models.spec import ModelSpec
from brainchop_bids.settings import Settings

from .scan import connect_all, init_single_scan_wf, scan_node_name


def init_brainchop_wf(
    *,
    settings: Settings,
    spec: ModelSpec,
    scans: list[Scan],
    name: str | None = None,
) -> LiterateWorkflow:
    """Build the workflow that segments scans and writes their derivatives.

    Parameters
    ----------
    settings : Settings
        Settings of the run.
    spec : ModelSpec
        The model.
    scans : list of Scan
        Scans to do.
    name : str, optional
        By default it carries the version, because Nipype's cache does not see changed code.

    Returns
    -------
    LiterateWorkflow
        With one independent workflow for each scan.
    """
    name = name or f'brainchop_{__version__.replace(".", "_")}_wf'
    workflow = LiterateWorkflow(name=name, base_dir=str(settings.work_dir))
    for scan in scans:
        workflow.add_nodes([init_scan_derivatives_wf(settings=settings, spec=spec, scan=scan)])
    return workflow


def init_scan_derivatives_wf(
    *, settings: Settings, spec: ModelSpec, scan: Scan
) -> LiterateWorkflow:
    """Build the workflow of one scan of a dataset, with its figure and its derivatives.

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
    LiterateWorkflow
    """
    workflow = LiterateWorkflow(name=scan_node_name(scan.label))
    single = init_single_scan_wf(
        model=spec,
        normalization=settings.normalization,
        components=settings.components,
        resample=settings.resample,
        probseg=settings.probseg,
        frame=settings.frame,
        omp_nthreads=settings.omp_nthreads,
    )
    single.inputs.inputnode.t1w = str(scan.path)
    colors = [label.color for label in spec.labels]
    mosaic = pe.Node(Mosaic(colors=colors), name='mosaic', mem_gb=0.5)
    write = pe.Node(
        WriteDerivatives(
            output_dir=str(settings.output_dir),
            source=scan.relative,
            slug=spec.slug,
            source_file=str(scan.path),
            recipe=settings.recipe(),
            model={'Name': spec.name, 'SHA256': spec.sha256, 'Classes': len(spec.labels)},
            rule=settings.components or spec.cleanup,
            abbreviations=[label.abbreviation for label in spec.labels],
        ),
        name='write',
        mem_gb=0.3,
    )
    same = ('warnings', 'engine', 'normalization', 'removed_components', 'removed_voxels')
    steps = ('conform', 'segment', 'components', 'resample')
    pairs = [(field, field) for field in (*same, 'brain_volume', 'peak_mb', 'volumes', 'dseg')]
    pairs += [(f'{step}_seconds', f'{step}_seconds') for step in steps]
    pairs += [('t1w_conform', 'preproc'), ('dseg_conform', 'dseg_conform'), ('brain_mask', 'mask')]
    if settings.probseg:
        pairs.append(('probseg', 'probabilities'))
    picture = [('t1w_conform', 'in_file'), ('dseg_conform', 'labels')]
    picture.append(('brain_mask_conform', 'mask'))
    workflow.connect(
        [
            connect_all(single, mosaic, picture),
            connect_all(single, write, pairs),
            (mosaic, write, [('out_file', 'mosaic'), ('seconds', 'mosaic_seconds')]),
        ]
    )
    return workflow


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

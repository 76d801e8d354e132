"""Nodes of the workflows, made from settings and models."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from nipype.pipeline import engine as pe

from brainchop_bids.bids.query import Scan
from brainchop_bids.image.conform import CONFORMED_SHAPE, ConformOptions
from brainchop_bids.image.headers import read_header
from brainchop_bids.inference.memory import estimate_conform_gb
from brainchop_bids.inference.options import InferenceOptions
from brainchop_bids.inference.plan import make_plan
from brainchop_bids.interfaces import (
    AssessQuality,
    Conform,
    DeriveLabels,
    KeepComponents,
    LabelVolumes,
    ResampleLabels,
    Segment,
    StripSkull,
    WriteDerivatives,
)
from brainchop_bids.models.spec import ModelSpec, load_spec
from brainchop_bids.quality.assess import LabelScheme
from brainchop_bids.settings import WORKER_GB, Settings
from brainchop_bids.system.errors import BrainchopError
from brainchop_bids.system.resources import Granted

# Peak resident memory of the NumPy steps, GB, see benchmarks/README.md: a worker holds about
# 0.2 GB of imported modules, and a 0.7 mm scan twice as floats.
_CONFORM_GB = 0.8
LABELS_GB = 0.8
# Peak resident memory of the quality measures on a 0.7 mm scan of 40 million voxels, GB.
_QUALITY_GB = 0.8


def init_conform_node(
    conform: ConformOptions | None = None,
    *,
    scan: Path | None = None,
    memory: Granted | None = None,
    frame: int | None = None,
    localiser: Path | None = None,
    omp_nthreads: int = 1,
    name: str = 'conform',
) -> pe.Node:
    """Build the node that conforms a scan, once for all models.

    Parameters
    ----------
    conform : ConformOptions, optional
        Target grid and interpolation; by default those of ``mri_convert -c``.
    scan : Path, optional
        The scan, if it is known already: the estimate of memory is then that of its header.
    memory : Granted, optional
        Memory that the step may use; by default as much as the machine grants.
    frame : int, optional
        Frame of a 4-D file, counted from 0.
    localiser : Path, optional
        Folder of the localiser that finds the brain first.
    omp_nthreads : int
        Number of threads of the node.
    name : str
        Name of the node.

    Returns
    -------
    Node
        A `Conform` node.
    """
    options = conform or ConformOptions()
    mem_gb = _CONFORM_GB
    if scan is not None:
        # What is wrong with a header is reported when the node runs.
        with suppress(BrainchopError):
            mem_gb = max(mem_gb, estimate_conform_gb(read_header(scan), options))
    node = pe.Node(
        Conform(**options.to_dict(), num_threads=omp_nthreads), name=name, mem_gb=mem_gb
    )
    if memory is not None:
        node.inputs.trait_set(memory_gb=memory.amount, memory_source=memory.source)
    if frame is not None:
        node.inputs.frame = frame
    if localiser is not None:
        node.inputs.localiser = str(localiser)
        node.inputs.localiser_sha256 = load_spec(localiser).sha256
    return node


def init_segment_node(
    spec: ModelSpec,
    inference: InferenceOptions,
    memory: Granted,
    *,
    normalization: str | None = None,
    pool: Path | None = None,
    omp_nthreads: int = 1,
    name: str = 'segment',
) -> pe.Node:
    """Build the node that runs the network on a conformed scan.

    Parameters
    ----------
    spec, inference, memory, normalization, pool, omp_nthreads
        As for `init_segmentation_wf`.
    name : str
        Name of the node.

    Returns
    -------
    Node
        A `Segment` node. Its ``mem_gb`` is the estimated memory of the network on a whole volume.

    Raises
    ------
    MemoryLimitError
        If the model does not fit into the memory.
    """
    plan = make_plan(spec, CONFORMED_SHAPE, memory, inference)
    node = pe.Node(
        Segment(
            computed_by=inference.engine,
            device=inference.device,
            precision=inference.precision,
            crop=inference.crop,
            tta=inference.tta,
            memory_gb=memory.amount,
            memory_source=memory.source,
            model=str(spec.folder),
            model_sha256=spec.sha256,
            num_threads=omp_nthreads,
        ),
        name=name,
        mem_gb=WORKER_GB + (plan.need_gb if pool is None else 0),
        n_procs=omp_nthreads,
    )
    # Undefined unless given, so that they do not count in Nipype's hash.
    given = {
        'subvolumes': inference.subvolumes,
        'normalization': normalization,
        'pool': None if pool is None else str(pool),
    }
    node.inputs.trait_set(**{name: value for name, value in given.items() if value is not None})
    return node


def init_components_node(spec: ModelSpec, components: str | None) -> pe.Node:
    """Build the node that cleans up labels, by a given rule or the one of the model."""
    return pe.Node(
        KeepComponents(
            rule=components or spec.cleanup,
            mask_rule=spec.mask_rule.to_dict(),
            intracranial=spec.intracranial,
            out_file='dseg_conform.nii',
            out_mask='brain_mask_conform.nii',
        ),
        name='keep_components',
        mem_gb=LABELS_GB,
    )


def init_resample_node(field: str, method: str, frame: int | None = None) -> pe.Node:
    """Build the node that resamples ``dseg`` or ``brain_mask`` to the grid of the scan."""
    # File names are those of the outputs, so that several can be copied into one folder.
    node = pe.Node(
        ResampleLabels(
            method=method, out_file=f'{field}.nii', remove_empty=not field.endswith('mask')
        ),
        name=f'resample_{field.removeprefix("brain_")}',
        mem_gb=LABELS_GB,
    )
    if frame is not None:
        node.inputs.frame = frame
    return node


def init_volumes_node(spec: ModelSpec, label_codes: str) -> pe.Node:
    """Build the node that measures the volumes of a model's labels."""
    labels = spec.labels_by_value(label_codes)
    return pe.Node(
        LabelVolumes(
            labels={value: label.name for value, label in labels.items()},
            codes={value: label.freesurfer for value, label in labels.items() if label.freesurfer},
            fluid=spec.intracranial,
        ),
        name='volumes',
        mem_gb=LABELS_GB,
    )


def init_derive_node(spec: ModelSpec) -> pe.Node:
    """Build the node that derives segmentations from a model's labels by look-up tables."""
    return pe.Node(
        DeriveLabels(
            names=[derived.name for derived in spec.derived],
            values=[list(derived.values) for derived in spec.derived],
            labels=[
                {label.index: label.name for label in derived.labels} for derived in spec.derived
            ],
        ),
        name='derive',
        mem_gb=LABELS_GB,
    )


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
        A `StripSkull` node whose mask is to be connected.
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
        Other scans of the same head that the model takes.

    Returns
    -------
    Node
        A `WriteDerivatives` node whose images are to be connected.
    """
    model = {'Name': spec.name, 'SHA256': spec.sha256, 'Classes': len(spec.labels)}
    if spec.status:
        model['Status'] = spec.status
    limit = {'confidence_limit': spec.confidence.to_dict()} if spec.confidence else {}
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
            border=settings.border,
            abbreviations=[label.abbreviation for label in spec.labels],
            derived={derived.name: derived.table for derived in spec.derived},
            **limit,
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
        An `AssessQuality` node whose labels are to be connected.
    """
    labels = spec.labels_by_value(settings.label_codes)
    scheme = LabelScheme.of(labels, covers_brain=spec.covers_brain)
    node = pe.Node(
        AssessQuality(
            in_file=str(scan.path),
            names=dict(scheme.names),
            tissues=dict(scheme.tissues),
            covers_brain=scheme.covers_brain,
        ),
        name='quality',
        mem_gb=_QUALITY_GB,
    )
    if settings.frame is not None:
        node.inputs.frame = settings.frame
    return node

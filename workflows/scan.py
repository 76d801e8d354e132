"""The graph of one T1w scan."""

from pathlib import Path
from textwrap import fill
from typing import Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from brainchop_bids import __version__
from brainchop_bids.image.cleanup import Cleanup
from brainchop_bids.image.conform import ConformOptions
from brainchop_bids.inference.memory import estimate_peak_gb
from brainchop_bids.interfaces import (
    Conform,
    KeepComponents,
    LabelVolumes,
    ResampleLabels,
    ResampleProbabilities,
    Segment,
)
from brainchop_bids.models import DEFAULT_MODEL
from brainchop_bids.models.spec import ModelSpec, load_spec
from brainchop_bids.models.zoo import find_model

# Peak resident memory of the steps in numpy, GB, as benchmarks/README.md tells: a worker holds
# some 0.2 GB of imports, and a 0.7 mm scan twice as floats.
_CONFORM_GB = 0.8
_LABELS_GB = 0.8


def init_single_scan_wf(
    *,
    model: ModelSpec | str | Path = DEFAULT_MODEL,
    conform: ConformOptions | None = None,
    normalization: str | None = None,
    components: str | None = None,
    resample: str = 'linear',
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
    normalization : str, optional
        Replaces the model's own, e.g. ``'quantile:0.02:0.98:clip'``.
    components : str, optional
        Which connected components stay, see `Cleanup`; by default as the model has it.
    resample : {'linear', 'nearest'}
        How labels return to the scan's own grid.
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
    warnings, engine, normalization, removed_components, removed_voxels, brain_volume, peak_mb
        What happened on the way.
    conform_seconds, segment_seconds, components_seconds, resample_seconds
        Wall time of the steps.

    Raises
    ------
    ModelError
        If the model is missing or incomplete.

    Examples
    --------
    >>> wf = init_single_scan_wf(model='model5_gw_ae')  # doctest: +SKIP
    >>> wf.inputs.inputnode.t1w = 'sub-01_T1w.nii.gz'  # doctest: +SKIP
    >>> wf.run()  # doctest: +SKIP
    """
    spec = model if isinstance(model, ModelSpec) else load_spec(find_model(str(model)))
    options = conform or ConformOptions()
    workflow = LiterateWorkflow(name=name)
    components = components or spec.cleanup
    workflow.__desc__ = _describe_method(spec, components, resample)
    workflow.__postdesc__ = REFERENCES

    inputnode = pe.Node(niu.IdentityInterface(fields=['t1w']), name='inputnode')
    outputnode = pe.Node(niu.IdentityInterface(fields=_outputs(probseg)), name='outputnode')
    conform_node = pe.Node(
        Conform(**options.to_dict(), num_threads=omp_nthreads),
        name='conform',
        mem_gb=_CONFORM_GB,
        n_procs=omp_nthreads,
    )
    segment = pe.Node(
        Segment(
            model=str(spec.folder),
            model_sha256=spec.sha256,
            num_threads=omp_nthreads,
            environ={'OMP_NUM_THREADS': str(omp_nthreads)},
        ),
        name='segment',
        mem_gb=estimate_peak_gb(spec, (256, 256, 256)),
        n_procs=omp_nthreads,
    )
    keep = pe.Node(
        KeepComponents(
            rule=components,
            mask_closing=spec.mask_closing_mm,
            mask_exclude=list(spec.mask_exclude),
        ),
        name='components',
        mem_gb=_LABELS_GB,
    )
    dseg = pe.Node(ResampleLabels(method=resample), name='resample_dseg', mem_gb=_LABELS_GB)
    mask = pe.Node(ResampleLabels(method=resample), name='resample_mask', mem_gb=_LABELS_GB)
    names = {label.index: label.name for label in spec.labels}
    volumes = pe.Node(LabelVolumes(labels=names), name='volumes', mem_gb=_LABELS_GB)
    if frame is not None:
        conform_node.inputs.frame = frame
    if normalization is not None:
        segment.inputs.normalization = normalization
    # fmt: off
    workflow.connect([
        (inputnode, conform_node, [('t1w', 'in_file')]),
        (inputnode, dseg, [('t1w', 'reference')]),
        (inputnode, mask, [('t1w', 'reference')]),
        (conform_node, segment, [('out_file', 'in_file')]),
        (segment, keep, [('out_file', 'in_file')]),
        (keep, dseg, [('out_file', 'in_file')]),
        (keep, mask, [('out_mask', 'in_file')]),
        (dseg, volumes, [('out_file', 'in_file')]),
        (mask, volumes, [('out_file', 'mask')]),
        (conform_node, outputnode, [('out_file', 't1w_conform'),
                                    ('warnings', 'warnings'),
                                    ('seconds', 'conform_seconds')]),
        (segment, outputnode, [('engine', 'engine'),
                               ('normalization', 'normalization'),
                               ('seconds', 'segment_seconds'),
                               ('peak_mb', 'peak_mb')]),
        (keep, outputnode, [('out_file', 'dseg_conform'),
                            ('out_mask', 'brain_mask_conform'),
                            ('removed_components', 'removed_components'),
                            ('removed_voxels', 'removed_voxels'),
                            ('seconds', 'components_seconds')]),
        (dseg, outputnode, [('out_file', 'dseg'), ('seconds', 'resample_seconds')]),
        (mask, outputnode, [('out_file', 'brain_mask')]),
        (volumes, outputnode, [('out_file', 'volumes'), ('brain_volume', 'brain_volume')]),
    ])
    # fmt: on
    if probseg:
        segment.inputs.probabilities = True
        maps = pe.Node(ResampleProbabilities(), name='resample_probseg', mem_gb=_LABELS_GB)
        workflow.connect(segment, 'out_probabilities', maps, 'in_file')
        workflow.connect(inputnode, 't1w', maps, 'reference')
        workflow.connect(maps, 'out_files', outputnode, 'probseg')
    return workflow


def _outputs(probseg: bool) -> list[str]:
    """Return the fields of the outputnode."""
    images = ['t1w_conform', 'dseg_conform', 'brain_mask_conform', 'dseg', 'brain_mask']
    facts = ['warnings', 'engine', 'normalization', 'removed_components', 'removed_voxels']
    steps = ('conform', 'segment', 'components', 'resample')
    fields = [*images, 'volumes', *facts, 'brain_volume', 'peak_mb']
    return fields + [f'{step}_seconds' for step in steps] + ['probseg'] * probseg


def _describe_cleanup(cleanup: Cleanup) -> str:
    """Say in the methods text what stays of the labels."""
    of = {
        'largest': 'all foreground voxels',
        'per-label': 'each label',
        'groups': f'each group of labels ({str(cleanup).partition(":")[2].partition("+")[0]})',
    }
    text = ''
    if cleanup.rule in of:
        text = f'Only the largest 26-connected component of {of[cleanup.rule]} was kept. '
    if cleanup.open_mm:
        text += (
            'What hung on it by bridges that a ball of '
            f'{cleanup.open_mm:g} mm radius does not pass was dropped. '
        )
    if cleanup.min_mm3:
        text += f'Components of less than {cleanup.min_mm3:g} mm^3 were dropped. '
    if cleanup.fill:
        text += 'Holes were filled with the label of the nearest voxel. '
    return text


def _describe_method(spec: ModelSpec, components: str, resample: str) -> str:
    """Write the methods text, with citation keys in pandoc's form."""
    clean = _describe_cleanup(Cleanup.parse(components))
    back = {
        'linear': "by linear interpolation of each label's indicator function and choice of the "
        'label with the largest value',
        'nearest': 'by nearest-neighbour interpolation',
    }[resample]
    text = f"""
        Each T1-weighted scan was segmented with *brainchop-bids* {__version__}, a BIDS App
        [@bidsapps] based on *Nipype* [@nipype]. The scan was conformed to 1 mm isotropic voxels
        with intensities scaled to 0-255, reproducing *FreeSurfer*'s `mri_convert -c`
        [@freesurfer]. Labels were assigned by the model *{spec.name}* (SHA-256
        {spec.sha256[:12]}), a convolutional network with {len(spec.labels)} classes that labels
        the whole volume at once, in the manner of MeshNet [@meshnet] and *brainchop*
        [@brainchop]. {clean}The labels were brought back to the grid of the scan {back}.
        Connected components were found with *connected-components-3d*, and files were read and
        written with *NiBabel* [@nibabel]."""
    return fill(' '.join(text.split()), 99, break_long_words=False, break_on_hyphens=False) + '\n'


REFERENCES = """
### References

- [@bidsapps] Gorgolewski KJ et al. (2017). BIDS apps: Improving ease of use, accessibility, and
  reproducibility of neuroimaging data analysis methods. PLoS Computational Biology 13(3):e1005209.
  https://doi.org/10.1371/journal.pcbi.1005209
- [@nipype] Gorgolewski K et al. (2011). Nipype: a flexible, lightweight and extensible
  neuroimaging data processing framework in Python. Frontiers in Neuroinformatics 5:13.
  https://doi.org/10.3389/fninf.2011.00013
- [@freesurfer] Fischl B (2012). FreeSurfer. NeuroImage 62(2):774-781.
  https://doi.org/10.1016/j.neuroimage.2012.01.021
- [@meshnet] Fedorov A, Johnson J, Damaraju E, Ozerin A, Calhoun V, Plis S (2017). End-to-end
  learning of brain tissue segmentation from imperfect labeling. 2017 International Joint
  Conference on Neural Networks (IJCNN), 3785-3792. https://doi.org/10.1109/IJCNN.2017.7966333
- [@brainchop] Masoud M, Hu F, Plis S (2023). Brainchop: In-browser MRI volumetric segmentation
  and rendering. Journal of Open Source Software 8(83):5098. https://doi.org/10.21105/joss.05098
- [@nibabel] Brett M et al. NiBabel: access a cacophony of neuro-imaging file formats. Zenodo.
  https://doi.org/10.5281/zenodo.591597
"""


def scan_node_name(stem: str) -> str:
    """Make a workflow name of a file stem; Nipype allows letters, digits and underscores.

    Examples
    --------
    >>> scan_node_name('sub-01_acq-x_T1w')
    'sub_01_acq_x_T1w_wf'
    """
    return ''.join(char if char.isalnum() else '_' for char in stem) + '_wf'


def connect_all(source: LiterateWorkflow, target: pe.Node, pairs: list[tuple[str, str]]) -> Any:
    """Return a connection of a workflow's outputnode to a node."""
    return (source, target, [(f'outputnode.{out}', into) for out, into in pairs])

"""Nodes of a segmentation workflow that only some models and options need."""

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from brainchop_bids.interfaces import ResampleMaps, ResampleProbabilities
from brainchop_bids.models.spec import ModelSpec
from brainchop_bids.system.resources import Granted

from .literate import LiterateWorkflow
from .nodes import LABELS_GB, init_conform_node, init_derive_node

# Outputs of `DeriveLabels`.
DERIVED = ('dsegs', 'dsegs_conform', 'volumes')


def add_channels(
    workflow: LiterateWorkflow, spec: ModelSpec, memory: Granted | None, omp_nthreads: int
) -> None:
    """Conform the other scans, for models that take several."""
    inputnode, segment = (workflow.get_node(name) for name in ('inputnode', 'segment'))
    channels = pe.Node(niu.Merge(spec.in_channels - 1), name='channels', mem_gb=0.1)
    for place, suffix in enumerate(spec.inputs[1:]):
        conform = init_conform_node(
            memory=memory, omp_nthreads=omp_nthreads, name=f'conform_{suffix}'
        )
        workflow.connect(inputnode, ('channels', _nth, place), conform, 'in_file')
        workflow.connect(inputnode, 't1w_conform', conform, 'reference')
        workflow.connect(conform, 'out_file', channels, f'in{place + 1}')
    workflow.connect(channels, 'out', segment, 'channels')


def add_derived(workflow: LiterateWorkflow, spec: ModelSpec) -> None:
    """Derive segmentations from the labels before they are recoded."""
    derive = init_derive_node(spec)
    workflow.connect(workflow.get_node('resample_dseg'), 'out_file', derive, 'dseg')
    workflow.connect(workflow.get_node('keep_components'), 'out_file', derive, 'dseg_conform')
    for field in DERIVED:
        workflow.connect(derive, field, workflow.get_node('outputnode'), f'derived_{field}')


def add_probabilities(workflow: LiterateWorkflow) -> None:
    """Write a probability map of each label in the scan's own grid."""
    inputnode, segment = (workflow.get_node(name) for name in ('inputnode', 'segment'))
    segment.inputs.probabilities = True
    resample_probseg = pe.Node(ResampleProbabilities(), name='resample_probseg', mem_gb=LABELS_GB)
    workflow.connect(segment, 'out_probabilities', resample_probseg, 'in_file')
    workflow.connect(inputnode, 't1w', resample_probseg, 'reference')
    workflow.connect(resample_probseg, 'out_files', workflow.get_node('outputnode'), 'probseg')


def add_uncertainty(workflow: LiterateWorkflow) -> None:
    """Write the maps of uncertainty in both grids."""
    names = ('inputnode', 'segment', 'outputnode')
    inputnode, segment, outputnode = (workflow.get_node(name) for name in names)
    segment.inputs.uncertainty = True
    files = ['entropy.nii', 'spread.nii'] if segment.inputs.tta else ['entropy.nii']
    resample = pe.Node(
        ResampleMaps(out_names=files), name='resample_uncertainty', mem_gb=LABELS_GB
    )
    workflow.connect(segment, 'out_uncertainty', resample, 'in_files')
    workflow.connect(inputnode, 't1w', resample, 'reference')
    workflow.connect(resample, 'out_files', outputnode, 'uncertainty')
    workflow.connect(segment, 'out_uncertainty', outputnode, 'uncertainty_conform')


def _nth(items: list[str], place: int) -> str:
    """Return an item of a list; self-contained, because Nipype runs its source code."""
    return items[place]

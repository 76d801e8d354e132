"""Methods text of a run, to be pasted into papers."""

import re
from collections.abc import Sequence
from textwrap import fill

from brainchop_bids import __version__
from brainchop_bids.image.cleanup import Cleanup
from brainchop_bids.image.smooth import Smoothing
from brainchop_bids.inference.options import InferenceOptions
from brainchop_bids.inference.subvolumes import Subvolumes
from brainchop_bids.models.spec import ModelSpec

_RESAMPLED = {
    'linear': 'linear interpolation of the indicator function of each label, each voxel taking '
    'the label with the largest value',
    'nearest': 'nearest-neighbour interpolation',
}

_COMBINED = {
    'gaussian': 'averaging class probabilities with Gaussian weights',
    'mean': 'averaging class probabilities',
    'vote': 'majority vote',
}


def describe_methods(
    specs: Sequence[ModelSpec],
    components: str | None = None,
    resample: str = 'linear',
    inference: InferenceOptions | None = None,
) -> str:
    """Write the methods text, with citation keys in pandoc's form.

    Parameters
    ----------
    specs : sequence of ModelSpec
        The models of the run.
    components : str, optional
        Rule of clean-up in place of the models' own.
    resample : {'linear', 'nearest'}
        How labels return to the scan's grid.
    inference : InferenceOptions, optional
        How the networks are run.

    Returns
    -------
    str
        One paragraph in lines of at most 99 characters.
    """
    options = inference or InferenceOptions()
    labelled = ' '.join(
        _describe_model(spec, components or spec.cleanup, options) for spec in specs
    )
    text = f"""
        Each T1-weighted scan was segmented with *brainchop-bids* {__version__}, a BIDS App
        [@bidsapps] based on *Nipype* [@nipype]. Scans were conformed to 1 mm isotropic voxels
        with intensities scaled to 0-255, reproducing `mri_convert -c` of *FreeSurfer*
        [@freesurfer]. {labelled} Labels and masks were resampled to the native grid of the scan
        by {_RESAMPLED[resample]}. Connected components were computed with
        *connected-components-3d*, and images were read and written with *NiBabel* [@nibabel]."""
    return fill(' '.join(text.split()), 99, break_long_words=False, break_on_hyphens=False) + '\n'


def list_references(text: str) -> str:
    """List the references that a methods text cites.

    Parameters
    ----------
    text : str
        Of `describe_methods`.

    Returns
    -------
    str
        Markdown, with a heading.
    """
    entries = re.split(r'\n(?=- \[@)', _REFERENCES.strip())
    cited = [entry for entry in entries if entry[2 : entry.index(']') + 1] in text]
    return '\n### References\n\n' + '\n'.join(cited) + '\n'


def _describe_model(spec: ModelSpec, components: str, options: InferenceOptions) -> str:
    status = f'; status: {spec.status}' if spec.status else ''
    origin = 'MeshNet [@meshnet] and ' if spec.chain else ''
    return f"""The model *{spec.name}* (SHA-256 {spec.sha256[:12]}{status}), a convolutional
        network in the manner of {origin}*brainchop* [@brainchop], assigned one of
        {len(spec.labels)} labels to each voxel. It was applied to
        {_describe_extent(spec, options)}. {_describe_extras(options)}
        {_describe_smoothing(spec.smoothing)}{_describe_cleanup(Cleanup.parse(components), spec)}
        {_describe_mask(spec)}{_describe_derived(spec)}"""


def _describe_extent(spec: ModelSpec, options: InferenceOptions) -> str:
    if options.subvolumes is None:
        if spec.block is None:
            return 'the whole volume at once'
        return f'adjacent blocks of {" x ".join(map(str, spec.block))} voxels'
    rule = Subvolumes.parse(options.subvolumes)
    text = f'cubes of {rule.size} voxels a side'
    if rule.overlapping:
        text += f' that overlapped by {rule.overlap} voxels'
        text += f', and to {rule.random} more at random positions' * bool(rule.random)
        text += f', and the results were combined by {_COMBINED[rule.combine]}'
    return text


def _describe_extras(options: InferenceOptions) -> str:
    text = ''
    if options.tta:
        text += (
            'Class probabilities were averaged over the scan and its left-right mirror image, '
            'with the labels of both sides exchanged. '
        )
    if options.precision == 'bf16':
        text += 'Features of the network were computed in bfloat16 precision. '
    return text


def _describe_smoothing(smoothing: Smoothing) -> str:
    if not smoothing.voxels:
        return ''
    which = 'Each voxel'
    if smoothing.below < 1:
        which = (
            f'Each voxel whose label had less than {smoothing.below:.0%} of the Gaussian weights '
            'around it'
        )
    return (
        f'{which} was then assigned the label with the largest sum of Gaussian weights in its '
        f'neighbourhood (standard deviation {smoothing.voxels:g} voxels). '
    )


def _describe_cleanup(cleanup: Cleanup, spec: ModelSpec) -> str:
    of = {
        'largest': 'the foreground',
        'per-label': 'each label',
        'groups': f'each group of labels ({str(cleanup).partition(":")[2].partition("+")[0]})',
    }
    text = ''
    if cleanup.rule in of:
        text = f'Only the largest 26-connected component of {of[cleanup.rule]} was kept. '
    if cleanup.open_mm:
        text += (
            'Structures connected to it only through bridges narrower than '
            f'{2 * cleanup.open_mm:g} mm were removed. '
        )
    if cleanup.min_mm3:
        text += f'Components smaller than {cleanup.min_mm3:g} mm^3 were removed. '
    if cleanup.within_mm:
        if spec.mask_rule.exclude:
            text += (
                'Labels from which the brain mask was made were removed outside it, and '
                f'all other labels at more than {cleanup.within_mm:g} mm from it. '
            )
        else:
            text += 'Labels outside the brain mask were removed. '
    if cleanup.fill:
        text += 'Holes were filled with the label of the nearest voxel. '
    return text


def _describe_mask(spec: ModelSpec) -> str:
    if not spec.covers_brain:
        return ''
    rule = spec.mask_rule
    text = 'The brain mask is the largest connected component of all labels'
    if rule.exclude:
        names = [label.name for label in spec.labels if label.index in rule.exclude]
        text += f' except {", ".join(names)}'
    if rule.open_mm:
        text += (
            ', without structures connected to it only through bridges narrower than '
            f'{2 * rule.open_mm:g} mm'
        )
    if rule.closing_mm:
        text += f', morphologically closed with a ball of {rule.closing_mm:g} mm radius'
    return f'{text}, with its holes filled. '


def _describe_derived(spec: ModelSpec) -> str:
    text = ''
    if spec.intracranial:
        text += (
            'Intracranial volume is the volume of a mask made in the same way from all labels, '
            'including cerebrospinal fluid. '
        )
    for derived in spec.derived:
        names = ', '.join(label.name for label in derived.labels if label.index)
        text += (
            f'The segmentation *{derived.name}* ({names}) was derived from these labels with the '
            f'look-up table `{derived.table}`. '
        )
    return text


_REFERENCES = """
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

"""Methods text of a run, to be pasted into papers."""

import re
from collections.abc import Sequence
from dataclasses import replace
from textwrap import fill

from brainchop_bids import __version__
from brainchop_bids.bids.names import MODALITIES
from brainchop_bids.image.cleanup import Cleanup
from brainchop_bids.image.conform import ConformOptions
from brainchop_bids.image.normalise import Normalization
from brainchop_bids.image.smooth import Smoothing
from brainchop_bids.inference.localise.localisation import MARGIN_MM
from brainchop_bids.inference.options import InferenceOptions
from brainchop_bids.inference.subvolumes import Subvolumes
from brainchop_bids.models.spec import ModelSpec, mask_owner

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

_NORMALIZED = {
    'minmax': 'scaled to 0-1 between their minimum and maximum',
    'zscore': 'standardized to zero mean and unit variance over voxels above 0',
    'zscore-whole': 'standardized to zero mean and unit variance over all voxels',
    'max': 'divided by their maximum',
    'brats': 'standardized over all voxels and scaled by their range, except for zeros',
    'none': 'not scaled further',
}


def describe_methods(
    specs: Sequence[ModelSpec],
    components: str | None = None,
    resample: str = 'linear',
    inference: InferenceOptions | None = None,
    *,
    normalization: str | None = None,
    conform: ConformOptions | None = None,
    border: float = 0.0,
    uncertainty: bool = False,
    localiser: ModelSpec | None = None,
    modality: str = 'T1w',
) -> str:
    """Write the methods text, with citation keys in pandoc's form.

    Parameters
    ----------
    specs : sequence of ModelSpec
        The models of the run.
    components : str, optional
        Clean-up rule that replaces those of the models, see `Cleanup`.
    resample : {'linear', 'nearest'}
        Interpolation of labels on the scan's own grid.
    inference : InferenceOptions, optional
        Options of the networks.
    normalization : str, optional
        Normalization that replaces those of the models, see `Normalization`.
    conform : ConformOptions, optional
        Options of the conform step; by default those of ``mri_convert -c``.
    border : float
        Distance in mm by which the brain mask grew, or shrank if it is negative.
    uncertainty : bool
        True if maps of uncertainty were written.
    localiser : ModelSpec, optional
        The localiser that found the brain first.
    modality : str
        Suffix of the scans, see `MODALITIES`.

    Returns
    -------
    str
        One paragraph in lines of at most 99 characters.
    """
    options = inference or InferenceOptions()
    labelled = ' '.join(
        _describe_model(
            spec,
            Cleanup.parse(components or spec.cleanup),
            options,
            Normalization.parse(normalization) if normalization else spec.normalization,
        )
        for spec in specs
    )
    owner = mask_owner(specs) if len(specs) > 1 else None
    if owner:
        labelled += f' The brain mask of *{owner.name}* was used as the brain mask of the scan.'
    if border and any(spec.covers_brain for spec in specs):
        grown = 'grown' if border > 0 else 'shrunk'
        labelled += f' The brain mask was then {grown} by {abs(border):g} mm.'
    if uncertainty:
        labelled += f' {_describe_uncertainty(options)}'
    conform = conform or ConformOptions()
    contrast = 'CT' if conform.ct else MODALITIES[modality]
    text = f"""
        Each {contrast} scan was segmented with *brainchop-bids*
        {__version__}, a BIDS App [@bidsapps] based on *Nipype* [@nipype].
        {_describe_conform(conform)} {_describe_localising(localiser)}
        {labelled} Labels and masks were resampled to the native grid of the scan
        by {_RESAMPLED[resample]}. Connected components were computed with
        *connected-components-3d*, and images were read and written with *NiBabel* [@nibabel]."""
    return fill(' '.join(text.split()), 99, break_long_words=False, break_on_hyphens=False) + '\n'


def list_references(text: str) -> str:
    """List the references that a methods text cites.

    Parameters
    ----------
    text : str
        Text that `describe_methods` returned.

    Returns
    -------
    str
        Markdown, with a heading.
    """
    entries = re.split(r'\n(?=- \[@)', _REFERENCES.strip())
    cited = [entry for entry in entries if entry[2 : entry.index(']') + 1] in text]
    return '\n### References\n\n' + '\n'.join(cited) + '\n'


def _describe_conform(options: ConformOptions) -> str:
    outliers = ' after intensities far from all others in a scan had been clipped'
    clipped = outliers if options.scale and options.window == 'auto' else ''
    if options.ct:
        return (
            'Intensities of the CT scans were clipped to 0 to 80 Hounsfield units, as in '
            f'*SynthSeg* [@synthseg]. {_describe_conform(replace(options, ct=False))}'
        )
    if replace(options, window='auto') == ConformOptions():
        return (
            'Scans were conformed to 1 mm isotropic voxels with intensities scaled to 0-255, '
            f'reproducing `mri_convert -c` of *FreeSurfer* [@freesurfer]{clipped}.'
        )
    size = "the scan's smallest voxel size" if options.smallest else f'{options.voxel_size:g} mm'
    field = ' and 256 voxels a side' if options.force_256 else ''
    change = 'scaled' if options.scale else 'rounded'
    return (
        f'Scans were conformed to isotropic voxels of {size}{field} with {options.interpolation} '
        f'interpolation and with intensities {change} to 0-255, following `mri_convert` of '
        f'*FreeSurfer* [@freesurfer]{clipped}.'
    )


def _describe_localising(localiser: ModelSpec | None) -> str:
    if localiser is None:
        return ''
    return (
        'The bounding box of the brain was determined first by the convolutional network '
        f'*{localiser.name}* (SHA-256 {localiser.sha256[:12]}) from frames of 64 x 64 pixels '
        'along the three axes of the scan. If the scan was larger than 256 mm, or the box was '
        'not within the conformed field of view with 10 mm around it, this field was moved by '
        'whole voxels to be centred on the box. Labels more than '
        f'{MARGIN_MM:g} mm outside of the box were removed, unless the box was uncertain.'
    )


def _describe_model(
    spec: ModelSpec, cleanup: Cleanup, options: InferenceOptions, normalization: Normalization
) -> str:
    status = f'; status: {spec.status}' if spec.status else ''
    kind = ' of the MeshNet type [@meshnet]' if spec.chain else ''
    return f"""The model *{spec.name}* (SHA-256 {spec.sha256[:12]}{status}), a convolutional
        network{kind}, assigned one of {len(spec.labels)} labels (including background) to each
        voxel, following the approach of *brainchop* [@brainchop]. Input intensities were
        {_describe_normalization(normalization)}. The network was applied to
        {_describe_extent(spec, options)}. {_describe_extras(options)}
        {_describe_smoothing(spec.smoothing)}{_describe_cleanup(cleanup, spec)}
        {_describe_mask(spec, cleanup)}{_describe_derived(spec)}"""


def _describe_normalization(rule: Normalization) -> str:
    if rule.kind != 'quantile':
        return _NORMALIZED[rule.kind]
    clip = ', and clipped to this range' * rule.clip
    return f'scaled to 0-1 between their {rule.low:g} and {rule.high:g} quantiles{clip}'


def _describe_extent(spec: ModelSpec, options: InferenceOptions) -> str:
    if options.subvolumes is None:
        if spec.block is None:
            return 'the whole volume at once'
        return f'adjacent blocks of {" x ".join(map(str, spec.block))} voxels'
    rule = Subvolumes.parse(options.subvolumes)
    adjacent = 'overlapping' if rule.overlap else 'adjacent'
    text = f'{adjacent} cubes of {rule.size} x {rule.size} x {rule.size} voxels'
    text += f' (overlap: {rule.overlap} voxels)' * bool(rule.overlap)
    text += f' and to {rule.random} more at random positions' * bool(rule.random)
    if rule.overlapping:
        text += f', and the results were combined by {_COMBINED[rule.combine]}'
    return text


def _describe_extras(options: InferenceOptions) -> str:
    text = ''
    if options.tta:
        text += (
            'Class probabilities were averaged over the scan and its left-right mirror image, '
            'with left and right labels exchanged. '
        )
    if options.precision == 'bf16':
        text += 'The network was evaluated in bfloat16 precision. '
    return text


def _describe_uncertainty(options: InferenceOptions) -> str:
    text = 'The uncertainty of each voxel was computed as the entropy of its class probabilities'
    if options.tta:
        text += (
            ' and, as the spread over the scan and its mirror image [@tta], the mutual '
            'information of class and image: the entropy of the mean probabilities less the mean '
            'of their entropies [@bald]'
        )
    return text + ', in nats, and resampled linearly.'


def _describe_smoothing(smoothing: Smoothing) -> str:
    if not smoothing.voxels:
        return ''
    which = 'each voxel'
    if smoothing.below < 1:
        which += f' whose own label had a value below {smoothing.below:g}'
    return (
        'Labels were smoothed: the indicator function of each label was convolved with a Gaussian '
        f'kernel (standard deviation {smoothing.voxels:g} voxels), and {which} was assigned the '
        'label with the largest value. '
    )


def _describe_cleanup(cleanup: Cleanup, spec: ModelSpec) -> str:
    text = {
        'none': '',
        'largest': 'Only the largest 26-connected component of all labels together was kept. ',
        'per-label': 'Only the largest 26-connected component of each label was kept. ',
        'groups': 'Only the largest 26-connected component of each of these groups of labels was '
        f'kept: {"; ".join(_names(spec, group) for group in cleanup.groups)}. ',
    }[cleanup.rule]
    if cleanup.open_mm:
        text += (
            'Structures connected to it only through bridges narrower than '
            f'{2 * cleanup.open_mm:g} mm were removed. '
        )
    if cleanup.min_mm3:
        text += f'Components smaller than {cleanup.min_mm3:g} mm^3 were removed. '
    if cleanup.fill:
        text += 'Holes were filled with the label of the nearest labelled voxel. '
    return text


def _describe_mask(spec: ModelSpec, cleanup: Cleanup) -> str:
    """Describe the brain mask, and the labels that are removed because of it."""
    if not (spec.covers_brain or cleanup.within_mm):
        return ''
    rule = spec.mask_rule
    steps = []
    if rule.open_mm:
        steps.append(
            'structures connected to the largest component only through bridges narrower than '
            f'{2 * rule.open_mm:g} mm were removed'
        )
    if rule.closing_mm:
        steps.append(f'the mask was closed with a ball of {rule.closing_mm:g} mm radius')
    steps += ['its largest connected component was kept', 'holes were filled']
    excluded = f' except {_names(spec, rule.exclude)}' if rule.exclude else ''
    first = ', '.join(steps[:-1])
    text = f'A brain mask was made from all labels{excluded}: {first}, and {steps[-1]}. '
    if cleanup.within_mm:
        kept = f'{excluded} within {cleanup.within_mm:g} mm of it' * bool(excluded)
        again = ', and the rule for connected components was applied again'
        again *= cleanup != Cleanup('none', within_mm=cleanup.within_mm)
        text += f'Labels outside the brain mask were then removed{kept}{again}. '
    return text


def _describe_derived(spec: ModelSpec) -> str:
    text = ''
    if spec.intracranial:
        text += (
            'The intracranial volume was computed as the volume of a mask made in the same way '
            'from all labels. '
        )
    for derived in spec.derived:
        names = ', '.join(label.name for label in derived.labels if label.index)
        text += (
            f'The segmentation *{derived.name}* ({names}) was derived from these labels with the '
            f'look-up table `{derived.table}`. '
        )
    return text


def _names(spec: ModelSpec, indices: Sequence[int]) -> str:
    """Return the names of labels, separated by commas."""
    return ', '.join(label.name for label in spec.labels if label.index in indices)


_REFERENCES = """
- [@bidsapps] Gorgolewski KJ et al. (2017). BIDS apps: Improving ease of use, accessibility, and
  reproducibility of neuroimaging data analysis methods. PLoS Computational Biology 13(3):e1005209.
  https://doi.org/10.1371/journal.pcbi.1005209
- [@nipype] Gorgolewski K et al. (2011). Nipype: a flexible, lightweight and extensible
  neuroimaging data processing framework in Python. Frontiers in Neuroinformatics 5:13.
  https://doi.org/10.3389/fninf.2011.00013
- [@freesurfer] Fischl B (2012). FreeSurfer. NeuroImage 62(2):774-781.
  https://doi.org/10.1016/j.neuroimage.2012.01.021
- [@synthseg] Billot B et al. (2023). SynthSeg: Segmentation of brain MRI scans of any contrast and
  resolution without retraining. Medical Image Analysis 86:102789.
  https://doi.org/10.1016/j.media.2023.102789
- [@meshnet] Fedorov A, Johnson J, Damaraju E, Ozerin A, Calhoun V, Plis S (2017). End-to-end
  learning of brain tissue segmentation from imperfect labeling. 2017 International Joint
  Conference on Neural Networks (IJCNN), 3785-3792. https://doi.org/10.1109/IJCNN.2017.7966333
- [@brainchop] Masoud M, Hu F, Plis S (2023). Brainchop: In-browser MRI volumetric segmentation
  and rendering. Journal of Open Source Software 8(83):5098. https://doi.org/10.21105/joss.05098
- [@tta] Wang G et al. (2019). Aleatoric uncertainty estimation with test-time augmentation for
  medical image segmentation with convolutional neural networks. Neurocomputing 338:34-45.
  https://doi.org/10.1016/j.neucom.2019.01.103
- [@bald] Houlsby N, Huszar F, Ghahramani Z, Lengyel M (2011). Bayesian active learning for
  classification and preference learning. https://doi.org/10.48550/arXiv.1112.5745
- [@nibabel] Brett M et al. NiBabel: access a cacophony of neuro-imaging file formats. Zenodo.
  https://doi.org/10.5281/zenodo.591597
"""

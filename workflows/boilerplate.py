"""The methods text of a run, for the papers of its users."""

from collections.abc import Sequence
from textwrap import fill

from brainchop_bids import __version__
from brainchop_bids.image.cleanup import Cleanup
from brainchop_bids.image.smooth import Smoothing
from brainchop_bids.inference.options import InferenceOptions
from brainchop_bids.inference.subvolumes import Subvolumes
from brainchop_bids.models.spec import ModelSpec

_BACK = {
    'linear': "by linear interpolation of each label's indicator function and choice of the "
    'label with the largest value',
    'nearest': 'by nearest-neighbour interpolation',
}

_COMBINED = {
    'gaussian': 'averaging probabilities with Gaussian weights',
    'mean': 'averaging probabilities',
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
        [@bidsapps] based on *Nipype* [@nipype]. The scan was conformed to 1 mm isotropic voxels
        with intensities scaled to 0-255, reproducing *FreeSurfer*'s `mri_convert -c`
        [@freesurfer]. {labelled} The labels were brought back to the grid of the scan
        {_BACK[resample]}. Connected components were found with *connected-components-3d*, and
        files were read and written with *NiBabel* [@nibabel]."""
    return fill(' '.join(text.split()), 99, break_long_words=False, break_on_hyphens=False) + '\n'


def _describe_model(spec: ModelSpec, components: str, options: InferenceOptions) -> str:
    extent = 'the whole volume at once'
    if options.subvolumes is not None:
        rule = Subvolumes.parse(options.subvolumes)
        extent = f'cubes of {rule.size} voxels a side'
        if rule.overlapping:
            where = f'which overlapped by {rule.overlap} voxels'
            where += f', and {rule.random} more at random places' * bool(rule.random)
            extent += f', {where}, combined by {_COMBINED[rule.combine]}'
    elif spec.block is not None:
        extent = f'cubes of {" x ".join(map(str, spec.block))} voxels side by side'
    status = f'; *{spec.status}* by its card' if spec.status else ''
    return f"""Labels were assigned by the model *{spec.name}* (SHA-256
        {spec.sha256[:12]}{status}), a convolutional network with {len(spec.labels)} classes
        that labels {extent}, in the manner of MeshNet [@meshnet] and *brainchop*
        [@brainchop]. {_describe_extras(options)}{_describe_smoothing(spec.smoothing)}
        {_describe_cleanup(Cleanup.parse(components))}{_describe_mask(spec)}{_describe_derived(spec)}"""


def _describe_extras(options: InferenceOptions) -> str:
    text = ''
    if options.tta:
        text += (
            'Probabilities were averaged with those of the scan flipped left to right, the '
            'labels of both sides exchanged. '
        )
    if options.precision == 'bf16':
        text += 'The network was computed in bfloat16. '
    return text


def _describe_smoothing(smoothing: Smoothing) -> str:
    """Say in the methods text how labels were smoothed."""
    if not smoothing.voxels:
        return ''
    which = 'Each voxel'
    if smoothing.below < 1:
        which += f' whose label had less than {smoothing.below:.0%} of the weights around it'
    return (
        f'{which} took the label with the largest share of Gaussian weights (standard deviation '
        f'{smoothing.voxels:g} voxels). '
    )


def _describe_mask(spec: ModelSpec) -> str:
    """Say in the methods text how the brain mask is made."""
    if not spec.covers_brain:
        return ''
    rule = spec.mask_rule
    text = 'The brain mask is the largest component of '
    text += 'all labels'
    if rule.exclude:
        names = [label.name for label in spec.labels if label.index in rule.exclude]
        text += f' but {", ".join(names)}'
    if rule.open_mm:
        text += f', without what hangs on it by less than a ball of {rule.open_mm:g} mm radius'
    if rule.closing_mm:
        text += f', closed by a ball of {rule.closing_mm:g} mm radius'
    return f'{text}, with holes filled. '


def _describe_derived(spec: ModelSpec) -> str:
    """Say in the methods text what follows from the labels."""
    text = ''
    if spec.intracranial:
        text += 'The intracranial volume is that of a mask made so of all labels, fluid included. '
    for derived in spec.derived:
        names = ', '.join(label.name for label in derived.labels if label.index)
        text += (
            f'The labels of *{derived.name}* ({names}) follow from these by the table '
            f'`{derived.table}`. '
        )
    return text


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
    if cleanup.within_mm:
        text += (
            'Labels that the brain mask is made of were dropped outside it, others farther than '
            f'{cleanup.within_mm:g} mm from it. '
        )
    if cleanup.fill:
        text += 'Holes were filled with the label of the nearest voxel. '
    return text


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

"""The tables of a training config, one frozen dataclass each. No Keras here."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from ..system.errors import SettingsError
from .choices import Count, Decay, NotNegative, Positive, Range, Share


@dataclass(frozen=True)
class DataOptions:
    """The ``[data]`` table: one of ``label_maps``, ``table``, ``bids`` and ``folder``.

    Parameters
    ----------
    label_maps : str
        Folder of conformed label maps of whole heads (``*.nii.gz``, ``*.nii`` or ``*.mgz``), from
        which images are synthesised.
    table : str
        TSV or CSV file with a row for each scan and the columns ``subject``, optionally
        ``session``, ``labels``, and one for each of ``channels``. Paths are relative to the
        table.
    bids, derivatives : str
        A raw BIDS dataset, and derivatives with its label images (``dseg``).
    segmentation : str
        ``seg`` entity of the label images, if there are several.
    folder, layout : str
        Folder of a public dataset, and its layout, a key of
        `brainchop_bids.training.data.layouts.LAYOUTS`.
    channels : tuple of str
        BIDS suffixes of the channels of the input; the first one defines the grid.
    hold_out : tuple of str
        Held-out label maps, by name without suffix, or subjects, without ``sub-``.
    split : float
        Share of the participants, or label maps, to train on, drawn by the seed; the others are
        held out. With 0, see ``hold_out``.
    folds, fold : int
        Number of folds for cross-validation by subject, and index of the fold that is held out,
        from 0. With 0 folds, see ``hold_out``.
    mapping : str
        Name or path of the table from codes to labels.
    normalization : str
        Normalisation of images, in training and inference.
    cache : str
        Folder for conformed volumes between runs; by default in the user's cache.
    """

    label_maps: str = ''
    table: str = ''
    bids: str = ''
    derivatives: str = ''
    segmentation: str = ''
    folder: str = ''
    layout: str = ''
    channels: tuple[str, ...] = ('T1w',)
    hold_out: tuple[str, ...] = ()
    split: Annotated[float, Range(0, 1, ')')] = 0.0
    folds: Count = 0
    fold: Count = 0
    mapping: str = 'aseg_to_tissue'
    normalization: str = 'quantile:0.02:0.98'
    cache: str = ''


@dataclass(frozen=True)
class NetworkOptions:
    """The ``[model]`` table.

    Parameters
    ----------
    architecture : str
        A key of `brainchop_bids.training.architectures.ARCHITECTURES`; ``like:MODEL``, that of
        a model by its folder or name; or ``path/to/file.py:function``, a user's own builder.
    channels : int
        Width of the hidden layers of a MeshNet, or of the first level of other networks.
    dilations : tuple of int
        Dilations of the hidden layers of a MeshNet.
    levels : int
        Number of resolutions of a U-Net or V-Net.
    widths : tuple of int
        Channels of each level of a light U-Net.
    space_to_depth : int
        Side, in voxels, of the blocks that a MeshNet or light U-Net computes on: with 2, it
        computes an eighth of the positions and labels all voxels, see
        `brainchop_bids.models.space_to_depth`.
    activation : str
        One of `brainchop_bids.models.network.ACTIVATIONS`.
    dropout : float
        Rate of spatial dropout.
    """

    architecture: str = 'meshnet'
    channels: Positive = 16
    dilations: tuple[Positive, ...] = (1, 2, 4, 8, 16, 8, 4, 2, 1)
    levels: Positive = 4
    widths: tuple[Positive, ...] = (24, 48, 96, 128)
    space_to_depth: int = 1
    activation: str = 'relu'
    dropout: Decay = 0.0


@dataclass(frozen=True)
class InitOptions:
    """The ``[init]`` table: transfer learning.

    Parameters
    ----------
    model : str
        Folder or name of a pretrained model; empty for random weights.
    freeze : tuple of str
        Patterns of names of layers that are not trained, with ``*``, ``?`` and ``[...]``.
    new_head : bool
        Initialise the last convolution anew even if its shape fits.
    allow_partial : bool
        Begin even if less than half of the weights are those of the pretrained model, or less than
        half of its layers' weights have a place.
    """

    model: str = ''
    freeze: tuple[str, ...] = ()
    new_head: bool = False
    allow_partial: bool = False


@dataclass(frozen=True)
class Stage:
    """A ``[[stages]]`` table: a part of the training with its own learning rate schedule.

    Parameters
    ----------
    steps : int
        Number of steps.
    cube : int or list of 3 int
        Side of the training patches, voxels, or their sides along left-right, head-foot and
        back-front, the axes of the conformed grid.
    batch : int
        Patches in each step.
    stride : int
        1, or 2 to compute only every second voxel along each axis, with an eighth of the work,
        see `brainchop_bids.training.stages`.
    learning_rate : float
        Largest learning rate of the schedule.
    weighted : bool
        Whether ``loss.class_weights`` are used. They help the network to find small structures,
        but in the end make these too large.
    subvoxels : int
        Number of voxels, of each block of a network with ``space_to_depth``, that are computed in
        a step, drawn anew in each; 0 for all.
    norm : str
        ``'batch'`` for batch normalisation, ``'fixed'`` for batch normalisation by the moving
        statistics of the previous stage, which no longer change, ``'group'`` for normalisation of
        each channel over the patch, or ``'none'``, for which batch normalisation of the previous
        stage is folded into the convolutions. With few patches in a step, a network learns to
        rely on the statistics of each patch; end with ``'fixed'``, as it is applied.
    cubes_per_volume : int
        Patches cut from each scan. Each patch from a label map is of an image of its own.
    centred : float
        Share of patches centred on a labelled voxel (with label maps: a brain voxel, not fluid
        around the brain).
    labelled : float
        Minimum share of labelled voxels in a patch; others are redrawn up to 20 times.
    synthesis : dict
        Changes to ``[synthesis]`` in this stage.
    """

    steps: Positive = 1000
    cube: Positive | tuple[Positive, ...] = 96
    batch: Positive = 1
    stride: int = 1
    learning_rate: Annotated[float, Range(0, open='(')] = 1e-3
    weighted: bool = True
    subvoxels: Count = 0
    norm: str = 'none'
    cubes_per_volume: Positive = 8
    centred: Share = 0.9
    labelled: Share = 0.0
    synthesis: dict[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the training patches, voxels."""
        x, y, z = (self.cube,) * 3 if isinstance(self.cube, int) else self.cube
        return x, y, z


@dataclass(frozen=True)
class LossTerm:
    """A ``[[loss.terms]]`` table: one term of a sum of losses.

    Parameters
    ----------
    kind : str
        A key of `brainchop_bids.training.losses.registry.LOSSES`.
    weight : float
        Factor of the term.
    options : dict
        Keyword arguments of the loss function, such as ``gamma`` or ``background``.
    """

    kind: str = ''
    weight: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LossOptions:
    """The ``[loss]`` table: one kind, or a weighted sum of terms.

    Parameters
    ----------
    kind : str
        A key of `brainchop_bids.training.losses.registry.LOSSES`; ignored if there are terms.
    class_weights : tuple of float
        One weight for each class, or none.
    options : dict
        Other keyword arguments of the loss function.
    terms : tuple of LossTerm
        Terms of the sum, which replace ``kind``.
    """

    kind: str = 'dice_cross_entropy'
    class_weights: tuple[NotNegative, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    terms: tuple[LossTerm, ...] = ()


@dataclass(frozen=True)
class OptimizerOptions:
    """The ``[optimizer]`` table.

    Parameters
    ----------
    name : str
        A key of `brainchop_bids.training.optimizers.OPTIMIZERS`.
    schedule : str
        Schedule of the learning rate in a stage, a key of
        `brainchop_bids.training.optimizers.SCHEDULES`.
    momentum : float
        Momentum of SGD and RMSprop.
    weight_decay : float
        Decoupled weight decay.
    clip : float
        Largest norm of the gradient of a variable; 0 for no limit.
    accumulate : int
        Steps over which gradients are averaged for each update.
    ema : float
        Decay of the exponential moving average of weights, for instance 0.999, that is validated
        and exported; 0 for none.
    """

    name: str = 'adam'
    schedule: str = 'one_cycle'
    momentum: Decay = 0.9
    weight_decay: NotNegative = 0.0
    clip: NotNegative = 1.0
    accumulate: Positive = 1
    ema: Decay = 0.0


@dataclass(frozen=True)
class ValidationOptions:
    """The ``[validation]`` table: scores of whole volumes during training.

    Parameters
    ----------
    every : int
        Steps between validations, a multiple of ``checkpoint_every``; 0 for no validation.
    volumes : int
        Number of held-out scans, or images from held-out label maps; 0 takes all.
    patience : int
        Number of validations without a better mean Dice after which a stage ends early; 0 for
        never.
    """

    every: Count = 0
    volumes: Count = 0
    patience: Count = 0


@dataclass(frozen=True)
class CardOptions:
    """The ``[card]`` table: facts on the model for its folder.

    Parameters
    ----------
    name : str
        Name of the model.
    labels : tuple of dict
        See ``labels`` in `brainchop_bids.models.spec`.
    task, components : str
        See `brainchop_bids.models.spec`.
    smooth, mask, derived : dict
        See `brainchop_bids.models.spec`.
    license, citation : str
        See `brainchop_bids.models.spec`.
    status : str
        A word such as ``'provisional'``, or empty.
    notes : str
        Further text for the model card.
    weights : {'float32', 'float16'}
        Type of the weights in the exported file; float16 takes half the space and rounds them.
    """

    name: str = 'model'
    labels: tuple[dict[str, Any], ...] = ()
    task: str = ''
    components: str = ''
    smooth: dict[str, Any] = field(default_factory=dict)
    mask: dict[str, Any] = field(default_factory=dict)
    derived: dict[str, Any] = field(default_factory=dict)
    license: str = ''
    citation: str = ''
    status: str = ''
    notes: str = ''
    weights: str = 'float32'

    def __post_init__(self) -> None:
        """Check what would only fail at the end of the training."""
        if self.weights not in ('float32', 'float16'):
            raise SettingsError(
                f'card.weights in the training config: expected float32 or float16, not '
                f'{self.weights!r}'
            )


@dataclass(frozen=True)
class SynthesisOptions:
    """The ``[synthesis]`` table: probabilities and limits of random images from label maps.

    Parameters
    ----------
    rotation : float
        Largest angle about each axis, degrees.
    scaling, shearing : float
        Largest relative change of size; largest shear.
    translation : float
        Largest shift along each axis, mm.
    elastic : float
        Largest standard deviation of the elastic displacement, mm.
    elastic_spacing : int
        Distance of the control points, mm.
    flip : float
        Probability of exchanging left and right in image and labels.
    bias : float
        Largest standard deviation of the logarithm of the bias field.
    gamma : float
        Standard deviation of the logarithm of the contrast exponent.
    noise : float
        Largest standard deviation of noise, as a share of the intensity range.
    thickness : float
        Largest voxel size of the simulated acquisition, mm.
    low_resolution : float
        Probability of voxels larger than 1 mm.
    t1 : float
        Probability of a T1-like contrast, rather than a random one.
    t1_spread : float
        Factor on the variation of mean intensities between T1-weighted scans.
    neck : float
        Probability of a neck that extends below the label map, with random tissue.
    strip, deface, crop : float
        Probabilities of removing everything but the brain, of removing the face, and of a field
        of view that ends within the head.
    loose : float
        Share of stripped heads with an irregular shell of up to some mm around the brain.
    proportions : float
        Largest growth or shrinkage of ventricles, brain and white matter, mm.
    low_contrast : float
        Probability of a low contrast of grey and white matter in T1-like images, as in infants
        and, less so, in old age.
    lesions : float
        Probability of lesions in white matter.
    contrast_agent : float
        Probability of vessels that are brighter than all tissue, as after a contrast agent.
    air_noise : float
        Probability of noise in air as strong as the brightest tissue, as in MP2RAGE images.
    outlier : float
        Probability of tissue outside the brain, or of a spot, that is up to three times as bright
        as everything else.
    field : float
        Largest field of view of frames for a localiser, mm.
    intensity_jitter : float
        Largest shift, and largest change of the range, of normalised intensities, as a share of
        the range.
    """

    rotation: NotNegative = 15.0
    scaling: NotNegative = 0.15
    shearing: NotNegative = 0.012
    translation: NotNegative = 15.0
    elastic: NotNegative = 3.0
    elastic_spacing: Positive = 24
    flip: Share = 0.5
    bias: NotNegative = 0.3
    gamma: NotNegative = 0.3
    noise: NotNegative = 0.08
    thickness: NotNegative = 5.0
    low_resolution: Share = 0.5
    t1: Share = 0.7
    t1_spread: NotNegative = 1.5
    neck: Share = 0.0
    strip: Share = 0.15
    deface: Share = 0.25
    crop: Share = 0.15
    loose: Share = 0.5
    proportions: NotNegative = 2.5
    low_contrast: Share = 0.15
    lesions: Share = 0.3
    contrast_agent: Share = 0.05
    air_noise: Share = 0.08
    outlier: Share = 0.15
    field: NotNegative = 600.0
    intensity_jitter: NotNegative = 0.05

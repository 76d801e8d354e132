"""The tables of a training config, one frozen dataclass each. No Keras here."""

from dataclasses import dataclass, field
from typing import Any

from ..system.errors import SettingsError


@dataclass(frozen=True)
class Data:
    """Where images and their labels come from: exactly one of ``label_maps``, ``table``, ``bids``
    and ``folder``.

    Parameters
    ----------
    label_maps : str
        Folder of label maps: whole heads, ``*.nii.gz``, ``*.nii`` or ``*.mgz``, conformed.
        Images are made from them.
    table : str
        TSV or CSV file of scans with their labels, one row each: ``subject``, perhaps
        ``session``, ``labels`` and a column for each of ``channels``. Relative paths begin at
        the table.
    bids, derivatives : str
        A raw BIDS dataset, and the derivatives that hold its label images (``dseg``).
    segmentation : str
        The ``seg`` entity of these, where there are several.
    folder, layout : str
        A folder in another project's form, a key of
        `brainchop_bids.training.data.layouts.LAYOUTS`.
    channels : tuple of str
        Suffixes of the images that make the channels of the input, in order; the first decides
        the grid.
    hold_out : tuple of str
        What is kept out of training: names of label maps without suffix, or of subjects
        (without ``sub-``).
    folds, fold : int
        Cross-validation: subjects are dealt into so many folds, and one of them, counted from
        0, is held out. 0 folds: see ``hold_out``.
    mapping : str
        Name or path of the table that gives each code its label.
    normalization : str
        How images are scaled, in training as in use.
    cache : str
        Folder that keeps conformed volumes between runs; by default one in the user's cache.
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
    folds: int = 0
    fold: int = 0
    mapping: str = 'aseg_to_tissue'
    normalization: str = 'quantile:0.02:0.98'
    cache: str = ''


@dataclass(frozen=True)
class Network:
    """The network.

    Parameters
    ----------
    architecture : str
        A key of `brainchop_bids.training.architectures.ARCHITECTURES`, or
        ``path/to/file.py:function``, a builder of the user's own.
    channels : int
        Width of each hidden layer of a MeshNet, of the first level of the others.
    dilations : tuple of int
        Dilation of each hidden layer of a MeshNet.
    levels : int
        Resolutions of a U-Net or V-Net.
    widths : tuple of int
        Channels of each level of a light U-Net.
    space_to_depth : int
        Voxels, along each axis, of the places that a MeshNet or a light U-Net computes on: with
        2 it runs on an eighth of the voxels and labels all of them, see
        `brainchop_bids.models.regroup`.
    activation : str
        As `brainchop_bids.models.network.ACTIVATIONS` has them.
    dropout : float
        Share of channels dropped in training.
    """

    architecture: str = 'meshnet'
    channels: int = 16
    dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 8, 4, 2, 1)
    levels: int = 4
    widths: tuple[int, ...] = (24, 48, 96, 128)
    space_to_depth: int = 1
    activation: str = 'relu'
    dropout: float = 0.0


@dataclass(frozen=True)
class Init:
    """Transfer learning: what a network begins with.

    Parameters
    ----------
    model : str
        Folder of a model, or the name of a known one; empty for a random start.
    freeze : tuple of str
        Patterns (``*``, ``?``, ``[...]``) of the names of layers that are not trained.
    new_head : bool
        Begin the last convolution anew even where its shape fits.
    """

    model: str = ''
    freeze: tuple[str, ...] = ()
    new_head: bool = False


@dataclass(frozen=True)
class Stage:
    """A part of the curriculum, with a one-cycle schedule of its own.

    Parameters
    ----------
    steps : int
        Updates of the weights.
    cube : int
        Side of the cubes cut from each image, voxels.
    batch : int
        Cubes in each step.
    stride : int
        1, or 2 to compute every second voxel of each axis only, an eighth of the work:
        dilated layers never look at the others (see `brainchop_bids.training.network`).
    learning_rate : float
        At the height of the cycle.
    weighted : bool
        Whether the loss weighs classes as ``loss.class_weights`` says. Weights help to find small
        structures, and make them too large in the end.
    subvoxels : int
        Of the voxels of each place of a network with ``space_to_depth``, those that a step
        computes, drawn anew each time; 0 for all of them.
    norm : str
        ``'batch'`` for batch normalisation, ``'group'`` for each channel over the cube, or
        ``'none'``: what a stage before learnt by batches is folded into the convolutions, so
        that its statistics no longer change with each cube.
    cubes_per_volume : int
        Cubes cut from each scan. Of label maps, each cube is of an image of its own.
    centred : float
        Share of cubes drawn around a labelled voxel (of label maps: one of the brain proper,
        not of the fluid around it).
    labelled : float
        Least share of labelled voxels in a cube; others are drawn again, a few times.
    synthesis : dict
        Options of the images that this stage has otherwise than the run.
    """

    steps: int = 1000
    cube: int = 96
    batch: int = 1
    stride: int = 1
    learning_rate: float = 1e-3
    weighted: bool = True
    subvoxels: int = 0
    norm: str = 'none'
    cubes_per_volume: int = 8
    centred: float = 0.9
    labelled: float = 0.0
    synthesis: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Term:
    """One term of a loss.

    Parameters
    ----------
    kind : str
        A key of `brainchop_bids.training.losses.registry.LOSSES`.
    weight : float
        Its factor in the sum.
    options : dict
        Keyword arguments of the function, such as ``gamma`` or ``background``.
    """

    kind: str = ''
    weight: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Loss:
    """The loss: one kind, or a weighted sum of terms.

    Parameters
    ----------
    kind : str
        A key of `brainchop_bids.training.losses.registry.LOSSES`; not looked at where there are
        terms.
    class_weights : tuple of float
        One for each class, or none.
    options : dict
        Other keyword arguments of the function.
    terms : tuple of Term
        The sum, in place of ``kind``.
    """

    kind: str = 'dice_cross_entropy'
    class_weights: tuple[float, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    terms: tuple[Term, ...] = ()


@dataclass(frozen=True)
class Optimizer:
    """How weights are changed.

    Parameters
    ----------
    name : str
        A key of `brainchop_bids.training.optimizers.OPTIMIZERS`.
    schedule : str
        A key of `brainchop_bids.training.optimizers.SCHEDULES`: the learning rate over the
        steps of a stage.
    momentum : float
        Of SGD and RMSprop.
    weight_decay : float
        Of AdamW and, decoupled alike, of the others.
    clip : float
        Largest norm of a variable's gradient; 0 for no limit.
    accumulate : int
        Steps whose gradients are averaged before the weights change.
    ema : float
        Decay of the exponential moving average of the weights that validation and the model
        take, for instance 0.999; 0 for none.
    """

    name: str = 'adam'
    schedule: str = 'one_cycle'
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip: float = 1.0
    accumulate: int = 1
    ema: float = 0.0


@dataclass(frozen=True)
class Validation:
    """Whole volumes that are scored while the network trains.

    Parameters
    ----------
    every : int
        Steps between two validations, a multiple of ``checkpoint_every``; 0 for none.
    volumes : int
        Scans, or images made from held-out label maps, that are scored; 0 takes all.
    patience : int
        Validations without a better mean Dice after which a stage ends early; 0 for never.
    """

    every: int = 0
    volumes: int = 0
    patience: int = 0


@dataclass(frozen=True)
class Card:
    """What the model's folder says of it.

    Parameters
    ----------
    name : str
        The model's name.
    labels : tuple of dict
        As ``labels`` in ``brainchop.json``.
    task, components : str
        As there.
    smooth, mask, derived : dict
        As there.
    license, citation : str
        As there.
    status : str
        A word such as ``'provisional'``; empty for none.
    notes : str
        Anything else a user should know.
    weights : {'float32', 'float16'}
        In which its file keeps the weights; the latter takes half the space, and the model is
        the one with the rounded weights.
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
        """Refuse what would only fail when the training is over."""
        if self.weights not in ('float32', 'float16'):
            raise SettingsError(
                f'card.weights in the training config: expected float32 or float16, not '
                f'{self.weights!r}'
            )


@dataclass(frozen=True)
class SynthesisOptions:
    """How far images may stray; each range is symmetric or begins at nothing.

    Parameters
    ----------
    rotation : float
        Largest angle about each axis, degrees.
    scaling, shearing : float
        Largest relative change of size, and largest shear.
    translation : float
        Largest shift along each axis, mm.
    elastic : float
        Largest standard deviation of the elastic displacement, mm.
    elastic_spacing : int
        Distance of its control points, mm.
    flip : float
        Probability of exchanging left and right, anatomy and labels.
    bias : float
        Largest standard deviation of the logarithm of the bias field.
    gamma : float
        Standard deviation of the logarithm of the contrast exponent.
    noise : float
        Largest standard deviation of noise, as a share of the intensity range.
    thickness : float
        Largest voxel size of the simulated acquisition, mm.
    low_resolution : float
        Probability that it is worse than 1 mm.
    t1 : float
        Probability of a T1-like contrast; all others are random.
    t1_spread : float
        By how much T1-like means vary more than they did in the scans the prior is from.
    neck : float
        Probability of a longer neck than the map has, with muscle, fat and bone of any shape.
    strip, deface, crop : float
        Probabilities of removing all but the brain, of cutting the face off, and of a field of
        view that ends within the head.
    loose : float
        Share of the stripped heads that keep a shell around the brain, irregular and some mm
        wide.
    proportions : float
        Largest growth or shrinking of ventricles, of the brain within its fluid, and of white
        matter within the cortex, mm.
    low_contrast : float
        Probability that a T1-like image has little contrast of grey and white matter, as those
        of infants have and, less so, those of old brains.
    lesions : float
        Probability of white matter that is darker or brighter in places; otherwise it looks
        the same everywhere.
    contrast_agent : float
        Probability of vessels that are brighter than anything, perhaps with white matter.
    air_noise : float
        Probability of noise in air as strong as the brightest tissue, as an MP2RAGE's quotient
        of two images has.
    outlier : float
        Probability of a tissue outside the brain, or of a spot, that is up to three times as
        bright as all else.
    intensity_jitter : float
        Largest shift and largest change of the intensities' range after normalisation, as a
        share of the range: networks shall not hang on it.
    """

    rotation: float = 15.0
    scaling: float = 0.15
    shearing: float = 0.012
    translation: float = 15.0
    elastic: float = 3.0
    elastic_spacing: int = 24
    flip: float = 0.5
    bias: float = 0.3
    gamma: float = 0.3
    noise: float = 0.08
    thickness: float = 5.0
    low_resolution: float = 0.5
    t1: float = 0.7
    t1_spread: float = 1.5
    neck: float = 0.0
    strip: float = 0.15
    deface: float = 0.25
    crop: float = 0.15
    loose: float = 0.5
    proportions: float = 2.5
    low_contrast: float = 0.15
    lesions: float = 0.3
    contrast_agent: float = 0.05
    air_noise: float = 0.08
    outlier: float = 0.15
    intensity_jitter: float = 0.05

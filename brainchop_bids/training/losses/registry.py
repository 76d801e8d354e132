"""The losses of training configs, as Keras losses.

All functions take integer labels and logits, optionally with class weights, and return one value
for each volume of the batch; the Keras classes average these.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from ...system.errors import SettingsError
from ..choices import require_known, suggestion
from ..options import LossOptions
from .overlap import (
    dice_of_masses,
    focal_tversky,
    generalised_dice,
    jaccard,
    masses,
    soft_dice,
    tversky,
)
from .tensors import flat_logits
from .voxelwise import boundary_cross_entropy, cross_entropy, cross_entropy_of, focal


def dice_cross_entropy(
    labels: Any,
    logits: Any,
    *,
    class_weights: Sequence[float] | None = None,
    background: bool = True,
    share: float = 0.5,
) -> Any:
    """Weighted sum of `soft_dice` and `cross_entropy`.

    Parameters
    ----------
    labels : (batch, X, Y, Z) integers
        The truth.
    logits : (batch, X, Y, Z, classes) float
        Before the softmax.
    class_weights : sequence of float, optional
        One weight for each class, for the cross entropy alone.
    background : bool
        Whether class 0 counts in the Dice term.
    share : float
        Weight of the Dice term, 0 to 1; the cross entropy has the rest.

    Returns
    -------
    (batch,) float32
    """
    # Both terms share one softmax, which takes most of the time.
    logarithms = ops.log_softmax(flat_logits(logits), axis=-1)
    dice = dice_of_masses(*masses(ops.exp(logarithms), labels), None, background)
    entropy = cross_entropy_of(logarithms, labels, class_weights)
    return share * dice + (1 - share) * entropy


LOSSES: dict[str, Callable[..., Any]] = {
    'soft_dice': soft_dice,
    'generalised_dice': generalised_dice,
    'jaccard': jaccard,
    'tversky': tversky,
    'focal_tversky': focal_tversky,
    'cross_entropy': cross_entropy,
    'focal': focal,
    'boundary_cross_entropy': boundary_cross_entropy,
    'dice_cross_entropy': dice_cross_entropy,
}

# Least and largest value of options, of all losses or of a single one.
_RANGES: dict[str, tuple[float, float]] = {
    'alpha': (0, math.inf),
    'beta': (0, math.inf),
    'gamma': (0, math.inf),
    'focal_tversky.gamma': (1, math.inf),
    'reach': (1, math.inf),
    'share': (0, 1),
    'strength': (0, math.inf),
}


@keras.saving.register_keras_serializable('brainchop')
class LabelLoss(keras.losses.Loss):
    """One of `LOSSES` as a Keras loss.

    Parameters
    ----------
    kind : str
        A key of `LOSSES`.
    name : str, optional
        Name in logs; by default the kind.
    **options
        Keyword arguments of the function.

    Raises
    ------
    ValueError
        If the kind is unknown.

    Examples
    --------
    >>> loss = LabelLoss('dice_cross_entropy', share=0.7)
    >>> loss.get_config()['share']
    0.7
    """

    def __init__(self, kind: str, *, name: str | None = None, **options: Any) -> None:
        if kind not in LOSSES:
            raise ValueError(f'loss {kind!r} is not known; expected one of {sorted(LOSSES)}')
        super().__init__(name=name or kind)
        self.kind = kind
        self.options = options

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each volume."""
        return LOSSES[self.kind](y_true, y_pred, **self.options)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {'kind': self.kind, 'name': self.name, **self.options}


@keras.saving.register_keras_serializable('brainchop')
class SumLoss(keras.losses.Loss):
    """Weighted sum of losses.

    Parameters
    ----------
    losses : sequence of keras.losses.Loss
        The terms.
    weights : sequence of float
        Factors of the terms.
    name : str
        Name in logs.

    Raises
    ------
    ValueError
        If the numbers of weights and losses differ.

    Examples
    --------
    >>> loss = SumLoss([LabelLoss('jaccard'), LabelLoss('focal', gamma=1.0)], [1.0, 0.5])
    >>> loss.get_config()['weights']
    [1.0, 0.5]
    """

    def __init__(
        self,
        losses: Sequence[keras.losses.Loss],
        weights: Sequence[float],
        *,
        name: str = 'sum',
    ) -> None:
        if len(losses) != len(weights):
            raise ValueError(f'{len(weights)} weights given for {len(losses)} losses')
        super().__init__(name=name)
        self.losses = list(losses)
        self.weights = list(map(float, weights))

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each volume."""
        terms = zip(self.losses, self.weights, strict=True)
        return sum(weight * loss.call(y_true, y_pred) for loss, weight in terms)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        losses = [keras.saving.serialize_keras_object(loss) for loss in self.losses]
        return {'losses': losses, 'weights': self.weights, 'name': self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> 'SumLoss':
        """Build a loss from the result of `get_config`."""
        losses = [keras.saving.deserialize_keras_object(loss) for loss in config['losses']]
        return cls(losses, config['weights'], name=config['name'])


def build_loss(loss: LossOptions, classes: int) -> keras.losses.Loss:
    """Build the loss of a training config.

    Parameters
    ----------
    loss : LossOptions
        One kind with its options, or a sum of terms. Class weights apply to all terms that
        support them and have none among their own options.
    classes : int
        Number of classes, background included.

    Returns
    -------
    keras.losses.Loss
        `SumLoss` if there are terms, else `LabelLoss`.

    Raises
    ------
    SettingsError
        If a kind or option is unknown, a value is invalid, or the number of class weights is not
        that of the classes; the message names the key.

    Examples
    --------
    >>> build_loss(LossOptions('focal', class_weights=(1.0, 2.0), options={'gamma': 3}), 2).options
    {'class_weights': [1.0, 2.0], 'gamma': 3.0}
    """
    if not loss.terms:
        kinds = {'loss.kind': loss.kind}
    elif loss.options:
        raise SettingsError(
            'loss.options is not looked at where there are loss.terms; give each term its options'
        )
    else:
        kinds = {f'loss.terms[{i}].kind': term.kind for i, term in enumerate(loss.terms)}
    for key, kind in kinds.items():
        require_known(key, kind, LOSSES)
    weights = {}
    if loss.class_weights:
        if not any('class_weights' in _parameters(kind) for kind in kinds.values()):
            raise SettingsError(
                f'loss.class_weights: {" and ".join(kinds.values())} cannot weigh classes'
            )
        weights = {'class_weights': _weights('loss.class_weights', loss.class_weights, classes)}
    if not loss.terms:
        return _label_loss('loss', loss.kind, loss.options, weights, classes)
    factors, terms = [], []
    for i, term in enumerate(loss.terms):
        if not 0 < term.weight < math.inf:
            raise SettingsError(
                f'loss.terms[{i}].weight is {term.weight}; expected a number above 0'
            )
        factors.append(term.weight)
        terms.append(_label_loss(f'loss.terms[{i}]', term.kind, term.options, weights, classes))
    return SumLoss(terms, factors)


def _label_loss(
    place: str, kind: str, options: dict[str, Any], weights: dict[str, Any], classes: int
) -> LabelLoss:
    known = _parameters(kind)
    checked: dict[str, Any] = dict(weights) if 'class_weights' in known else {}
    for name, value in options.items():
        key = f'{place}.options.{name}'
        if name not in known:
            hint = suggestion(name, known, f'{place}.options.')
            raise SettingsError(f'{key} is no option of {kind}; {hint}')
        if name == 'class_weights':
            checked[name] = _weights(key, value, classes)
        else:
            checked[name] = _option(key, kind, name, value, known[name])
    return LabelLoss(kind, **checked)


def _parameters(kind: str) -> dict[str, Any]:
    """Return the options of a loss and their defaults."""
    parameters = inspect.signature(LOSSES[kind]).parameters.values()
    return {item.name: item.default for item in parameters if item.kind is item.KEYWORD_ONLY}


def _option(key: str, kind: str, name: str, value: Any, default: Any) -> Any:
    """Return the checked value of an option, which must have the type of its default."""
    expected = type(default)
    if expected is float and type(value) is int:
        value = float(value)
    low, high = _RANGES.get(f'{kind}.{name}', _RANGES.get(name, (-math.inf, math.inf)))
    fits = type(value) is expected
    if fits and expected in (int, float):
        fits = low <= value <= high and math.isfinite(value)
    if not fits:
        words = {bool: 'true or false', int: 'a whole number', float: 'a number'}
        limits = f' of {low:g} or more' if high == math.inf else f' from {low:g} to {high:g}'
        raise SettingsError(
            f'{key} is {value!r}; expected {words.get(expected, expected.__name__)}'
            f'{limits if low > -math.inf else ""}'
        )
    return value


def _weights(key: str, values: Any, classes: int) -> list[float]:
    """Return checked class weights."""
    if not isinstance(values, (list, tuple)) or len(values) != classes:
        raise SettingsError(f'{key} is {values!r}; expected a list of {classes} numbers, one each')
    fits = all(type(value) in (int, float) and 0 <= value < math.inf for value in values)
    if not fits or not any(values):
        raise SettingsError(f'{key} is {list(values)}; expected numbers of 0 or more, not all 0')
    return [float(value) for value in values]

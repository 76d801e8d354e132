"""Keras metrics for segmentation, on any backend."""

from typing import Any

import keras
from keras import ops

from .losses.tensors import flat_labels, sum_by_class


@keras.saving.register_keras_serializable('brainchop')
class ClassDice(keras.metrics.Metric):
    """Dice of each class between labels and the most likely class, over all batches.

    Voxels are counted over all batches, so that smaller batches have a smaller weight.

    Parameters
    ----------
    classes : int
        Number of classes, background included.
    name : str
        Name in logs.
    """

    def __init__(self, classes: int, *, name: str = 'dice', **options: Any) -> None:
        super().__init__(name=name, **options)
        self.classes = classes
        shape = (classes,)
        self.shared = self.add_weight(shape=shape, initializer='zeros', name='shared')
        self.sizes = self.add_weight(shape=shape, initializer='zeros', name='sizes')

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch of integer labels and logits; weights are ignored."""
        truth, known = flat_labels(y_true, self.classes)
        predicted, _ = flat_labels(ops.argmax(y_pred, axis=-1), self.classes)

        def count(mask: Any, labels: Any) -> Any:
            return ops.sum(sum_by_class(mask, labels, self.classes), axis=0)

        self.shared.assign_add(count(known * ops.cast(truth == predicted, 'float32'), truth))
        self.sizes.assign_add(count(known, truth) + count(ops.ones_like(known), predicted))

    def per_class(self) -> Any:
        """Return the Dice of each class, ``(classes,)``; NaN for absent classes."""
        return 2 * self.shared / self.sizes

    def result(self) -> Any:
        """Return the mean over the foreground classes that are in the labels or predicted."""
        present = ops.cast(self.sizes[1:] > 0, 'float32')
        dice = 2 * self.shared[1:] / ops.maximum(self.sizes[1:], 1.0)
        return ops.sum(dice * present) / ops.maximum(ops.sum(present), 1.0)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), 'classes': self.classes}

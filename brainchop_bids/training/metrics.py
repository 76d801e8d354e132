"""What is counted beside the loss, on any Keras backend."""

from typing import Any

import keras
from keras import ops

from .losses.tensors import flat_labels, sum_by_class


@keras.saving.register_keras_serializable('brainchop')
class ClassDice(keras.metrics.Metric):
    """Dice of each class over all volumes seen, of labels and of the most likely class.

    Counts are added up over batches, so that the last, smaller batch weighs what it is worth.

    Parameters
    ----------
    classes : int
        Number of classes, background included.
    name : str
        For logs.
    """

    def __init__(self, classes: int, *, name: str = 'dice', **options: Any) -> None:
        super().__init__(name=name, **options)
        self.classes = classes
        shape = (classes,)
        self.shared = self.add_weight(shape=shape, initializer='zeros', name='shared')
        self.sizes = self.add_weight(shape=shape, initializer='zeros', name='sizes')

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count a batch: integer labels and logits as for the losses; weights are not used."""
        truth, known = flat_labels(y_true, self.classes)
        found, _ = flat_labels(ops.argmax(y_pred, axis=-1), self.classes)

        def count(which: Any, labels: Any) -> Any:
            return ops.sum(sum_by_class(which, labels, self.classes), axis=0)

        self.shared.assign_add(count(known * ops.cast(truth == found, 'float32'), truth))
        self.sizes.assign_add(count(known, truth) + count(ops.ones_like(known), found))

    def per_class(self) -> Any:
        """Return the Dice of each class, ``(classes,)``; NaN where there was nothing."""
        return 2 * self.shared / self.sizes

    def result(self) -> Any:
        """Return the mean over the foreground classes that were there or predicted."""
        there = ops.cast(self.sizes[1:] > 0, 'float32')
        dice = 2 * self.shared[1:] / ops.maximum(self.sizes[1:], 1.0)
        return ops.sum(dice * there) / ops.maximum(ops.sum(there), 1.0)

    def get_config(self) -> dict[str, Any]:
        """Return what makes this metric again."""
        return {**super().get_config(), 'classes': self.classes}

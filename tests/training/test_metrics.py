"""The metric against counts made by hand."""

import keras
import numpy as np
import pytest

from brainchop_bids.training.metrics import ClassDice
from tests.training.losses.test_losses import LABELS, LOGITS, logits_of, volume


def test_dice_of_each_class_over_batches() -> None:
    metric = ClassDice(3)
    # Most likely classes: 0 1 1 2, then 1 1 0 0.
    metric.update_state(LABELS, LOGITS)
    other = logits_of([[0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.8, 0.1, 0.1], [0.8, 0.1, 0.1]])
    metric.update_state(volume([1, 0, 0, 2]), other)
    expected = [2 * 2 / (3 + 3), 2 * 3 / (3 + 4), 2 * 1 / (2 + 1)]
    found = keras.ops.convert_to_numpy(metric.per_class())
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert float(metric.result()) == pytest.approx((expected[1] + expected[2]) / 2)
    metric.reset_state()
    assert float(metric.result()) == 0

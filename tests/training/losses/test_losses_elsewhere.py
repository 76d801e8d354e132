"""Losses against other implementations: plain numpy in double precision, SciPy and MONAI."""

from typing import Any

import keras
import numpy as np
import pytest
from scipy import ndimage

from brainchop_bids.training.losses.registry import LOSSES

CLASSES = 4
CLASS_WEIGHTS = np.array([0.2, 1.0, 2.5, 4.0])
CASES: list[tuple[str, dict[str, Any]]] = [
    ('soft_dice', {}),
    ('soft_dice', {'background': False}),
    ('generalised_dice', {}),
    ('jaccard', {}),
    ('jaccard', {'class_weights': CLASS_WEIGHTS}),
    ('tversky', {}),
    ('tversky', {'alpha': 0.9, 'beta': 0.4, 'background': False}),
    ('focal_tversky', {}),
    ('focal_tversky', {'gamma': 2.0, 'class_weights': CLASS_WEIGHTS, 'background': False}),
    ('cross_entropy', {'class_weights': CLASS_WEIGHTS}),
    ('focal', {}),
    ('focal', {'gamma': 0.7, 'class_weights': CLASS_WEIGHTS}),
    ('boundary_cross_entropy', {}),
    ('boundary_cross_entropy', {'strength': 9.0, 'reach': 2, 'class_weights': CLASS_WEIGHTS}),
]


@pytest.fixture(scope='module')
def given() -> tuple[np.ndarray, np.ndarray]:
    """Return two volumes of blobs, and logits that are often right."""
    rng = np.random.default_rng(5)
    smooth = ndimage.gaussian_filter(rng.normal(size=(2, 9, 11, 10, CLASSES)), (0, 2, 2, 2, 0))
    labels = np.argmax(smooth, axis=-1)
    assert all(len(np.unique(volume)) == CLASSES for volume in labels)
    logits = 2 * np.eye(CLASSES)[labels] + rng.normal(0, 2, smooth.shape)
    return labels, logits.astype(np.float32)


def ours(kind: str, labels: np.ndarray, logits: np.ndarray, options: dict[str, Any]) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(LOSSES[kind](labels, logits, **options)))


def distances(labels: np.ndarray) -> np.ndarray:
    """Return the chessboard distance of each voxel to the nearest of another label."""
    found = np.zeros(labels.shape)
    for label in np.unique(labels):
        inside = labels == label
        found[inside] = ndimage.distance_transform_cdt(inside, 'chessboard')[inside]
    return found


def one_volume(
    kind: str,
    labels: np.ndarray,
    logits: np.ndarray,
    class_weights: np.ndarray = np.ones(CLASSES),  # noqa: B008
    background: bool = True,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float | None = None,
    strength: float = 4.0,
    reach: int = 3,
) -> float:
    """Work a loss out for one volume, class by class or voxel by voxel."""
    probabilities = np.exp(logits.astype(np.float64))
    probabilities /= probabilities.sum(-1, keepdims=True)
    right = np.take_along_axis(probabilities, labels[..., None], -1)[..., 0]
    weight = class_weights[labels]
    if kind == 'boundary_cross_entropy':
        near = np.clip((reach + 1 - distances(labels)) / reach, 0, 1)
        weight = weight * (1 + strength * near)
    if kind in ('cross_entropy', 'boundary_cross_entropy'):
        return float(np.average(-np.log(right), weights=weight))
    if kind == 'focal':
        power = 2.0 if gamma is None else gamma
        return float(np.average(-np.log(right) * (1 - right) ** power, weights=weight))
    scores, top, bottom = [], 0.0, 0.0
    for label in range(CLASSES):
        there, found = labels == label, probabilities[..., label]
        hit, excess, missed = found[there].sum(), found[~there].sum(), (1 - found[there]).sum()
        top += 2 * hit / there.sum() ** 2
        bottom += (2 * hit + excess + missed) / there.sum() ** 2
        index = {
            'soft_dice': 2 * hit / (2 * hit + excess + missed),
            'jaccard': hit / (hit + excess + missed),
        }.get(kind, hit / (hit + alpha * excess + beta * missed))
        power = 1 / (gamma or 4 / 3) if kind == 'focal_tversky' else 1.0
        scores.append((1 - index) ** power)
    if kind == 'generalised_dice':
        return float(1 - top / bottom)
    first = 0 if background else 1
    return float(np.average(scores[first:], weights=class_weights[first:]))


@pytest.mark.parametrize(('kind', 'options'), CASES)
def test_plain_numpy_finds_the_same(
    given: tuple[np.ndarray, np.ndarray], kind: str, options: dict[str, Any]
) -> None:
    labels, logits = given
    expected = [one_volume(kind, y, z, **options) for y, z in zip(labels, logits, strict=True)]
    np.testing.assert_allclose(ours(kind, labels, logits, options), expected, rtol=1e-5)


def test_half_precision_is_counted_in_single(given: tuple[np.ndarray, np.ndarray]) -> None:
    labels, logits = given
    half = logits.astype(np.float16)
    for kind, options in CASES:
        expected = ours(kind, labels, half.astype(np.float32), options)
        found = ours(kind, labels, half, options)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize('reach', [1, 4])
def test_nearness_is_scipys_chessboard_distance(reach: int) -> None:
    from brainchop_bids.training.losses.voxelwise import boundary_nearness

    labels = np.random.default_rng(0).choice(3, (7, 12, 9), p=[0.97, 0.02, 0.01])
    expected = np.clip((reach + 1 - distances(labels)) / reach, 0, 1)
    found = keras.ops.convert_to_numpy(boundary_nearness(labels[None], reach))[0]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert 0 < found.mean() < 1
    # A volume of one label has no boundary, not even at its edges.
    whole = keras.ops.convert_to_numpy(boundary_nearness(np.full((1, 4, 4, 4), 2), reach))
    assert not whole.any()


def test_monai_finds_the_same(given: tuple[np.ndarray, np.ndarray]) -> None:
    losses = pytest.importorskip('monai.losses', reason='the comparison with MONAI needs MONAI')
    torch = pytest.importorskip('torch', reason='MONAI needs PyTorch')
    labels, logits = given
    truth = torch.tensor(labels)[:, None]
    scores = torch.tensor(np.moveaxis(logits, -1, 1).astype(np.float64))
    form = {'softmax': True, 'to_onehot_y': True, 'reduction': 'none'}
    exact = {'smooth_nr': 0.0, 'smooth_dr': 0.0}

    def over_classes(loss: Any) -> np.ndarray:
        return loss(scores, truth).reshape(2, -1).numpy()

    expected = {
        'soft_dice': over_classes(losses.DiceLoss(**form, **exact)).mean(-1),
        'jaccard': over_classes(losses.DiceLoss(jaccard=True, **form, **exact)).mean(-1),
        'generalised_dice': over_classes(losses.GeneralizedDiceLoss(**form, **exact)).mean(-1),
    }
    index = over_classes(losses.TverskyLoss(alpha=0.3, beta=0.7, **form, **exact))
    expected |= {'tversky': index.mean(-1), 'focal_tversky': (index**0.75).mean(-1)}
    focal = losses.FocalLoss(use_softmax=True, to_onehot_y=True, gamma=2.0, reduction='none')
    expected['focal'] = focal(scores, truth).sum(1).reshape(2, -1).mean(-1).numpy()
    for kind, values in expected.items():
        np.testing.assert_allclose(ours(kind, labels, logits, {}), values, rtol=1e-5, err_msg=kind)
    weighted = losses.FocalLoss(
        use_softmax=True, to_onehot_y=True, weight=torch.tensor(CLASS_WEIGHTS), reduction='none'
    )
    total = weighted(scores, truth).sum(1).reshape(2, -1).sum(-1).numpy()
    found = ours('focal', labels, logits, {'class_weights': CLASS_WEIGHTS})
    weights = CLASS_WEIGHTS[labels].reshape(2, -1).sum(-1)
    np.testing.assert_allclose(found, total / weights, rtol=1e-5)
    for volume in (0, 1):
        entropy = torch.nn.functional.cross_entropy(
            scores[volume : volume + 1], truth[volume], weight=torch.tensor(CLASS_WEIGHTS)
        )
        found = ours('cross_entropy', labels, logits, {'class_weights': CLASS_WEIGHTS})
        np.testing.assert_allclose(found[volume], entropy.item(), rtol=1e-5)

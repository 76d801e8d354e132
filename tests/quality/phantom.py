"""A head of ellipsoids: brain of three tissues, scalp and a neck below, in noisy air."""

import numpy as np

from brainchop_bids.image.geometry import Geometry
from brainchop_bids.image.io import Volume
from brainchop_bids.quality.assess import Assessment, LabelScheme, assess

SHAPE, ZOOM = (104, 116, 116), 2.0
SCHEME = LabelScheme({0: 'BG', 1: 'GM', 2: 'WM', 3: 'CSF'}, {1: 1, 2: 2, 3: 3})
LEVELS = {'air': 0, 'scalp': 500, 'csf': 200, 'gm': 600, 'wm': 1000}


def ball(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
    """Return an ellipsoid; millimetres from the middle of the field."""
    axes = [
        ((np.arange(n) - (n - 1) / 2) * ZOOM - middle) / radius
        for n, middle, radius in zip(SHAPE, centre, radii, strict=True)
    ]
    x, y, z = np.meshgrid(*axes, indexing='ij', sparse=True)
    return x**2 + y**2 + z**2 < 1


def head(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scan (int16), labels and brain mask, axes R, A, S."""
    middle = (0.0, 0.0, 20.0)
    brain, cortex, white = (
        ball(middle, radii) for radii in ((66, 78, 62), (62, 74, 58), (50, 60, 44))
    )
    labels = np.zeros(SHAPE, np.uint8, order='F')
    labels[brain], labels[cortex], labels[white] = 3, 1, 2
    labels[ball(middle, (12, 25, 14))] = 3
    body = ball(middle, (76, 90, 74)) | ball((0, -10, -70), (48, 55, 60))
    values = np.where(body, LEVELS['scalp'], LEVELS['air']).astype(float)
    for value, name in ((3, 'csf'), (1, 'gm'), (2, 'wm')):
        values[labels == value] = LEVELS[name]
    noise = np.random.default_rng(seed).normal(0, 40, (2, *SHAPE))
    scan = np.hypot(values + noise[0], noise[1]).round().astype(np.int16)
    return np.asfortranarray(scan), labels, np.asfortranarray(brain)


def geometry(zoom: float = ZOOM) -> Geometry:
    """Return the grid of the phantom, axes R, A, S."""
    affine = np.diag([zoom, zoom, zoom, 1.0])
    affine[:3, 3] = -zoom * (np.array(SHAPE) - 1) / 2
    return Geometry.from_affine(affine, SHAPE)


def judge(
    scan: np.ndarray,
    labels: np.ndarray,
    mask: np.ndarray | None,
    *,
    scheme: LabelScheme = SCHEME,
    zoom: float = ZOOM,
    removed_mm3: float = 0.0,
) -> Assessment:
    """Assess arrays of the phantom's shape."""
    return assess(Volume(scan, geometry(zoom)), labels, mask, scheme, removed_mm3=removed_mm3)

"""Lesions of white matter and bright vessels, which label maps lack."""

import numpy as np


def add_lesions(image: np.ndarray, white: np.ndarray, rng: np.random.Generator) -> None:
    """Draw blobs into white matter, whose label they keep.

    Parameters
    ----------
    image : (X, Y, Z) float32
        0 to about 1; changed in place.
    white : bool array of the same shape
        White matter.
    rng : numpy.random.Generator
        Random generator.
    """
    voxels = np.flatnonzero(white)
    if not len(voxels):
        return
    mean, spread = rng.uniform(0, 1.1), rng.uniform(0.01, 0.08)
    for place in rng.choice(voxels, rng.integers(1, 25)):
        middle = np.array(np.unravel_index(place, image.shape))
        radii = np.exp(rng.uniform(*np.log((0.8, 5)))) * rng.uniform(0.6, 1.7, 3)
        reach = np.ceil(radii).astype(int)
        low = np.maximum(middle - reach, 0)
        box = tuple(slice(a, b) for a, b in zip(low, middle + reach + 1, strict=True))
        grid = np.ogrid[tuple(slice(0, n) for n in image[box].shape)]
        distance = sum(
            ((g + start - centre) / r) ** 2
            for g, start, centre, r in zip(grid, low, middle, radii, strict=True)
        )
        ragged = distance + rng.normal(0, 0.2, image[box].shape) < 1
        lesion = ragged & white[box]
        image[box][lesion] = np.abs(rng.normal(mean, spread, int(lesion.sum())))


def add_vessels(
    image: np.ndarray, head: np.ndarray, outside: np.ndarray, rng: np.random.Generator
) -> None:
    """Draw thin curves that are brighter than everything else, as after a contrast agent.

    Parameters
    ----------
    image : (X, Y, Z) float32
        0 to about 1; changed in place.
    head : bool array of the same shape
        Everything but air.
    outside : bool array of the same shape
        Everything but brain; only vessels there may be wide.
    rng : numpy.random.Generator
        Random generator.
    """
    voxels = np.flatnonzero(head)
    if not len(voxels):
        return
    shape = np.array(image.shape)
    bright = float(image.max()) * rng.uniform(1, 1.5)
    for place in rng.choice(voxels, rng.integers(15, 80)):
        begin = np.array(np.unravel_index(place, image.shape), np.float64)
        turns = rng.normal(0, 0.12, (int(rng.integers(40, 200)), 3))
        heading = rng.normal(0, 1, 3) + np.cumsum(turns, 0)
        heading /= np.linalg.norm(heading, axis=1, keepdims=True)
        path = begin + np.cumsum(heading, 0) * 0.7
        radius = float(np.exp(rng.uniform(*np.log((0.5, 2.2)))))
        reach = int(np.ceil(radius))
        ball = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3), -1).reshape(-1, 3)
        ball = ball[(ball**2).sum(1) <= radius**2]
        points = (np.rint(path)[:, None] + ball).reshape(-1, 3).astype(int)
        points = points[((points >= 0) & (points < shape)).all(1)]
        flat = np.ravel_multi_index(tuple(points.T), image.shape)
        keep = head.ravel()[flat]
        if radius > 1:
            keep &= outside.ravel()[flat]
        image.reshape(-1)[flat[keep]] = bright

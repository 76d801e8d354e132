"""Asymmetry of a shape: its distance from its own mirror image."""

from collections.abc import Callable
from functools import partial
from itertools import product

import numpy as np
from scipy import ndimage, optimize

# Largest tilt of the head: beyond it the plane is another than the midsagittal one.
_TILT = 0.8  # of the normal's direction, against its own length
# The same as a tangent: the search may not wander there either.
_MOST = 0.75
# Tilts (by the tangent) and shifts (mm) that are tried first, and at how much of the shape.
_TILTS = (-0.4, -0.2, 0.0, 0.2, 0.4)
_SHIFTS = (-8.0, 0.0, 8.0)
_EVERY = 5


def mirror_asymmetry(mask: np.ndarray, affine: np.ndarray) -> float:
    """Return the asymmetry of a shape about its best left-right mirror plane.

    The normal of a plane of symmetry is a principal axis of the shape. The search begins at the
    principal axis nearest to left-right and at a grid of tilts around left-right itself, and
    polishes the best two: a tilted or rotated head is not asymmetric.

    Parameters
    ----------
    mask : (X, Y, Z) array
        Share of each block that belongs to the shape, 0 to 1.
    affine : (4, 4) array
        Block index to RAS+ mm.

    Returns
    -------
    float
        1 minus the Dice overlap of shape and mirror image: 0 for a symmetric shape, 1 for an
        empty one.
    """
    inside = np.argwhere(mask > 0)
    weights = np.asarray(mask[mask > 0], dtype=np.float64)
    if weights.size < 2:
        return 1.0
    places = inside @ affine[:3, :3].T + affine[:3, 3]
    centre = np.average(places, axis=0, weights=weights)
    places -= centre
    back = np.linalg.inv(affine)
    padded = np.pad(np.asarray(mask, dtype=np.float32), 1)

    def missed(plane: np.ndarray, every: int = 1) -> float:
        if max(abs(plane[:2])) > _MOST:
            return 1.0
        normal = np.array([1.0, plane[0], plane[1]])
        normal /= np.linalg.norm(normal)
        own, share = places[::every], weights[::every]
        mirrored = own - 2 * np.outer(own @ normal - plane[2], normal) + centre
        index = back[:3, :3] @ mirrored.T + back[:3, 3:] + 1
        other = ndimage.map_coordinates(padded, index, order=1, mode='constant')
        return 1 - float(np.minimum(share, other).sum() / share.sum())

    starts = sorted(_candidate_planes(places, weights), key=partial(missed, every=_EVERY))
    return min(1.0, *(_minimize(missed, start) for start in starts[:2]))


def _candidate_planes(places: np.ndarray, weights: np.ndarray) -> list[np.ndarray]:
    """List planes from which to search: tangents of two tilts, and shift in mm."""
    planes = [np.array(plane) for plane in product(_TILTS, _TILTS, _SHIFTS)]
    axes = np.linalg.eigh(np.cov(places.T, aweights=weights))[1].T
    main = axes[np.argmax(np.abs(axes[:, 0]))]
    if abs(main[0]) > _TILT:
        planes.append(np.array([main[1] / main[0], main[2] / main[0], 0.0]))
    return planes


def _minimize(function: Callable[[np.ndarray], float], start: np.ndarray) -> float:
    """Return the local minimum near a plane."""
    # Steps of 3 degrees and 2 mm to begin with.
    simplex = start + np.vstack([np.zeros(3), np.diag([0.05, 0.05, 2.0])])
    options = {'initial_simplex': simplex, 'xatol': 1e-3, 'fatol': 1e-4, 'maxfev': 60}
    result = optimize.minimize(function, start, method='Nelder-Mead', options=options)
    return float(result.fun)

"""How far a shape is from its own mirror image."""

import numpy as np
from scipy import ndimage, optimize

# A tilt of the head that is found: further away lies another plane than the midsagittal one.
_TILT = 0.6  # of the normal's direction, against its own length


def mirror_asymmetry(mask: np.ndarray, affine: np.ndarray) -> float:
    """Return how much of a shape its best left-right mirror image misses.

    The normal of a plane of symmetry is a principal axis of the shape, so that the search
    begins at the principal axis nearest to left-right (and at left-right itself) and only
    polishes it; a tilted or turned head costs nothing.

    Parameters
    ----------
    mask : (X, Y, Z) array
        Share of each block that belongs to the shape, 0 to 1.
    affine : (4, 4) array
        Block index to RAS+ mm.

    Returns
    -------
    float
        1 less the Dice overlap of shape and mirror image: 0 for a symmetric one. 1 where there
        is no shape.
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

    def missed(plane: np.ndarray) -> float:
        normal = np.array([1.0, plane[0], plane[1]])
        normal /= np.linalg.norm(normal)
        mirrored = places - 2 * np.outer(places @ normal - plane[2], normal) + centre
        index = back[:3, :3] @ mirrored.T + back[:3, 3:] + 1
        other = ndimage.map_coordinates(padded, index, order=1, mode='constant')
        return 1 - float(np.minimum(weights, other).sum() / weights.sum())

    spread = np.cov(places.T, aweights=weights)
    axes = np.linalg.eigh(spread)[1].T
    main = axes[np.argmax(np.abs(axes[:, 0]))]
    start = np.zeros(3)
    if abs(main[0]) > _TILT:
        tilted = np.array([main[1] / main[0], main[2] / main[0], 0.0])
        start = min(start, tilted, key=missed)
    # Steps of 3 degrees and 2 mm to begin with.
    simplex = start + np.vstack([np.zeros(3), np.diag([0.05, 0.05, 2.0])])
    found = optimize.minimize(
        missed,
        start,
        method='Nelder-Mead',
        options={'initial_simplex': simplex, 'xatol': 1e-3, 'fatol': 1e-4, 'maxfev': 60},
    )
    return float(found.fun)

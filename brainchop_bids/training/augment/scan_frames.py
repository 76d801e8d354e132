"""Frames for localisers from labelled scans of any organ, at random planes through them."""

from dataclasses import dataclass

import nibabel as nib
import numpy as np

from ...image.geometry import Geometry
from ...image.normalise import Normalization, normalise
from ..options import SynthesisOptions
from .frame_pose import FramePose, mean_of_points
from .frames import finished

# Voxel size to which scans are averaged, mm; pixels of frames are larger.
_FINE = 2.0


@dataclass(frozen=True, eq=False)
class OrganScan:
    """A scan with the mask of an organ, averaged to voxels of about 2 mm.

    Parameters
    ----------
    image : (X, Y, Z) float32
        Intensities; axes run left, down and forward.
    organ : (X, Y, Z) bool
        The organ, which is not empty.
    zooms : (3,) float
        Voxel sizes, mm.
    """

    image: np.ndarray
    organ: np.ndarray
    zooms: np.ndarray

    @classmethod
    def of(cls, data: np.ndarray, organ: np.ndarray, geometry: Geometry) -> 'OrganScan':
        """Reorient and shrink a scan.

        Parameters
        ----------
        data : (X, Y, Z) array
            Intensities.
        organ : (X, Y, Z) bool
            The organ.
        geometry : Geometry
            Grid of both.

        Returns
        -------
        OrganScan
        """
        orient = nib.orientations
        turn = orient.ornt_transform(
            orient.io_orientation(geometry.vox2ras), orient.axcodes2ornt('LIA')
        )
        zooms = np.empty(3)
        zooms[turn[:, 0].astype(int)] = geometry.zooms
        factors = [max(1, int(_FINE / zoom)) for zoom in zooms]
        image, share = (
            _averaged(orient.apply_orientation(array, turn), factors) for array in (data, organ)
        )
        mask = share > 0.5
        # An organ of few voxels is half of none of them.
        return cls(image, mask if mask.any() else share > 0, zooms * factors)

    @property
    def middle(self) -> np.ndarray:
        """Middle of the organ, mm from the first voxel, (3,) float64."""
        middle: np.ndarray = (self._ends.mean(0)) * self.zooms
        return middle

    @property
    def reach(self) -> float:
        """Half of the longest side of the organ, mm."""
        first, last = self._ends
        return float(((last - first + 1) * self.zooms).max() / 2)

    @property
    def _ends(self) -> np.ndarray:
        places = np.argwhere(self.organ)
        return np.stack([places.min(0), places.max(0)])


def draw_scan_frames(
    scan: OrganScan,
    rng: np.random.Generator,
    options: SynthesisOptions,
    count: int,
    rule: Normalization,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw frames of a scan, all along the same axis, each turned in its plane.

    Parameters
    ----------
    scan : OrganScan
        The scan.
    rng : numpy.random.Generator
        Random generator.
    options : SynthesisOptions
        Ranges of pose, bias field, contrast curve and noise.
    count : int
        Number of frames.
    rule : Normalization
        Normalisation; if it does not depend on the image, noise and contrast curve are those of
        normalised intensities.

    Returns
    -------
    images : (count, 64, 64) float32
        Normalised.
    labels : (count, 64, 64) uint8
        See `brainchop_bids.training.augment.frames.draw_frames`.
    """
    pose = FramePose.draw(rng, options, count, scan.reach)
    middle, zooms = scan.middle, scan.zooms
    index = np.zeros(pose.points.shape[1:], np.intp)
    known = ~np.isnan(pose.points[0])
    for axis, length in enumerate(scan.organ.shape):
        place = (np.nan_to_num(pose.points[axis], nan=-1e6) + middle[axis]) / zooms[axis]
        place = np.rint(place)
        known &= (place >= 0) & (place < length)
        index *= length
        index += np.clip(place, 0, length - 1).astype(np.intp)
    # As in localising, the frame is 0 beyond the field of view.
    image = mean_of_points(np.where(known, scan.image.reshape(-1)[index], np.float32(0)))
    organ = mean_of_points(known & scan.organ.reshape(-1)[index]) > 0.5
    if rule.kind == 'window':
        return finished(normalise(image, rule), organ, pose, rng, options, top=1.0)
    image -= min(0.0, float(image.min()))
    images, labels = finished(image, organ, pose, rng, options)
    return normalise(images, rule), labels


def _averaged(array: np.ndarray, factors: list[int]) -> np.ndarray:
    """Return the means of blocks, float32; voxels after the last whole block are left out."""
    x, y, z = (n // factor for n, factor in zip(array.shape, factors, strict=True))
    a, b, c = factors
    blocks = array[: x * a, : y * b, : z * c].reshape(x, a, y, b, z, c)
    averaged: np.ndarray = blocks.mean((1, 3, 5), dtype=np.float32)
    return averaged

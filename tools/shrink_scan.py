"""Make a small file of a scan, as the one in ``examples/bids``.

    python tools/shrink_scan.py SCAN OUT.nii.gz [--mm 1.5]

The scan is cropped to the head with a margin of 4 voxels, resampled linearly to isotropic voxels
along the axes of its own header, and stored as uint8. Intensities above 255 are clipped and none
are scaled, so this is for scans of few grey levels.
"""

import argparse
import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.processing import resample_to_output
from scipy import ndimage


def shrink(scan: nib.Nifti1Image, mm: float) -> nib.Nifti1Image:
    """Return the head of a scan in isotropic voxels of uint8.

    Parameters
    ----------
    scan : Nifti1Image
        Whole head whose air is darker than 15.
    mm : float
        Voxel size.

    Returns
    -------
    Nifti1Image
        With the qform and the sform of the new grid, and nothing else of the scan's header.
    """
    bright = ndimage.binary_opening(np.asarray(scan.dataobj) > 15, iterations=2)
    parts = ndimage.label(bright)[0]
    largest = np.bincount(parts[bright]).argmax()
    sides = ndimage.find_objects(parts)[largest - 1]
    box = tuple(slice(max(0, side.start - 4), side.stop + 4) for side in sides)
    small = resample_to_output(scan.slicer[box], (mm,) * 3, order=1)
    data = np.asarray(small.dataobj).round().clip(0, 255).astype(np.uint8)
    image = nib.Nifti1Image(data, small.affine)
    image.set_qform(small.affine, 'scanner')
    image.set_sform(small.affine, 'scanner')
    return image


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('scan', type=Path)
    parser.add_argument('out', type=Path)
    parser.add_argument('--mm', type=float, default=1.5)
    given = parser.parse_args()
    # Without a time stamp, so that the same scan always gives the same file.
    image = shrink(nib.load(given.scan), given.mm)
    given.out.write_bytes(gzip.compress(image.to_bytes(), 9, mtime=0))

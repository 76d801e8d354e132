"""Images in two files, ``.hdr`` and ``.img``: public training sets still come so."""

from dataclasses import replace
from pathlib import Path

from .headers import PAIR_SUFFIXES, read_pair_header
from .io import Volume, read_volume, read_voxels


def read_any(path: Path) -> Volume:
    """Read one volume from a file or from a pair of files.

    Parameters
    ----------
    path : Path
        As for `brainchop_bids.image.io.read_volume`; or either file of a NIfTI-1 pair or of
        Analyze 7.5, for whose axes see `brainchop_bids.image.headers.read_pair_header`.

    Returns
    -------
    Volume

    Raises
    ------
    InputError
        Where a file is missing, damaged or no scalar 3-D image.
    """
    if path.suffix.lower() not in PAIR_SUFFIXES:
        return read_volume(path)
    header, voxels = read_pair_header(path)
    return replace(read_voxels(voxels, header), path=path)

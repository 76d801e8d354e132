"""What a localiser found in a scan, as text, JSON and a table's row."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...image.dicom import as_nifti
from ...image.io import Volume, read_volume
from ...image.window import clip_hounsfield
from .localiser import Localiser, Located
from .orientation import disagree, in_words

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
TABLE = (
    'scan', 'found', 'i_first', 'i_last', 'j_first', 'j_last', 'k_first', 'k_last',
    'x_min', 'x_max', 'y_min', 'y_max', 'z_min', 'z_max', 'certainty', 'orientation',
    'header_orientation', 'seconds',
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Finding:
    """A scan, and what was found in it.

    Parameters
    ----------
    path : Path
        The scan.
    organ : str
        Name of what was sought.
    located : Located
        What was found.
    affine : (4, 4) array
        Voxel index to RAS+ mm.
    seconds : dict of str to float
        Times for ``read`` and ``find``.
    """

    path: Path
    organ: str
    located: Located
    affine: np.ndarray
    seconds: dict[str, float]

    @property
    def box(self) -> Box | None:
        """First and last voxel along each axis, both included."""
        if self.located.sector is None:
            return None
        x, y, z = ((one.first, one.last) for one in self.located.sector.extents)
        return x, y, z

    @property
    def box_mm(self) -> np.ndarray | None:
        """Least and largest coordinate of the box, (3, 2) in RAS+ mm, with its outer edges."""
        return None if self.box is None else box_in_mm(self.box, self.affine)

    @property
    def orientation_flag(self) -> str | None:
        """One line if what is seen disagrees with the header."""
        seen, header = self.located.codes, self.located.header_codes
        if seen is None or not disagree(seen, header, self.located.orientation_certainty):
            return None
        return (
            f'{self.path}: the header says that axes advance to {in_words(header)}; what is seen '
            f'agrees with {in_words(seen)} (certainty {self.located.orientation_certainty:.2f})'
        )

    def lines(self) -> list[str]:
        """Return the finding for a terminal."""
        sector, place = self.located.sector, self.box_mm
        if sector is None or place is None:
            return [f'{self.path}: no {self.organ} found']
        lines = [f'{self.path}: {self.organ} found in {self.seconds["find"]:.2f} s']
        for axis, extent, (low, high), name in zip(
            'ijk', sector.extents, place, 'xyz', strict=True
        ):
            first, last = extent.certainties
            lines.append(
                f'  {axis}: {extent.first} to {extent.last} (certainty {first:.2f}, {last:.2f})'
                f'   {name}: {low:.1f} to {high:.1f} mm'
            )
        if self.located.codes is not None:
            seen, header = (''.join(c) for c in (self.located.codes, self.located.header_codes))
            lines.append(
                f'  axes: {seen} as seen (certainty {self.located.orientation_certainty:.2f}), '
                f'{header} by the header; R is left or right'
            )
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return the finding, ready for JSON."""
        sector, place, located = self.located.sector, self.box_mm, self.located
        found: dict[str, Any] = {'scan': str(self.path), 'organ': self.organ, 'found': False}
        if sector is not None and place is not None:
            found |= {
                'found': True,
                'axes': [
                    {
                        'first': extent.first,
                        'last': extent.last,
                        'certainties': [round(value, 3) for value in extent.certainties],
                    }
                    for extent in sector.extents
                ],
                'box_mm': [[round(float(value), 2) for value in side] for side in place],
                'certainty': round(sector.certainty, 3),
            }
        if located.codes is not None:
            found['orientation'] = {
                'seen': list(located.codes),
                'header': list(located.header_codes),
                'certainty': round(located.orientation_certainty, 3),
                'flag': self.orientation_flag,
            }
        return {**found, 'seconds': {k: round(v, 3) for k, v in self.seconds.items()}}

    def row(self) -> list[str]:
        """Return the row of `TABLE`; ``n/a`` where nothing was found."""
        sector, place, located = self.located.sector, self.box_mm, self.located
        cells = ['n/a'] * 13
        if sector is not None and place is not None and self.box is not None:
            cells = [str(end) for side in self.box for end in side]
            cells += [f'{value:.2f}' for value in place.reshape(-1)]
            cells.append(f'{sector.certainty:.3f}')
        seen = 'n/a' if located.codes is None else ''.join(located.codes)
        seconds = f'{sum(self.seconds.values()):.3f}'
        found = 'yes' if sector is not None else 'no'
        return [str(self.path), found, *cells, seen, ''.join(located.header_codes), seconds]


def box_in_mm(box: Box, affine: np.ndarray) -> np.ndarray:
    """Return where a box of voxels lies.

    Parameters
    ----------
    box : tuple of 3 (int, int)
        First and last voxel along each axis, both included.
    affine : (4, 4) array
        Voxel index to RAS+ mm.

    Returns
    -------
    (3, 2) array
        Least and largest coordinate along x, y and z, with the outer edges of the voxels.
    """
    ends = [(first - 0.5, last + 0.5) for first, last in box]
    corners = np.stack(np.meshgrid(*ends, indexing='ij'), -1).reshape(-1, 3)
    places = corners @ affine[:3, :3].T + affine[:3, 3]
    return np.stack([places.min(0), places.max(0)], -1)


def locate(
    path: Path, localiser: Localiser, *, frame: int | None = None, ct: bool = False
) -> tuple[Volume, Finding]:
    """Read a scan, and find the organ of a localiser in it.

    Parameters
    ----------
    path : Path
        The scan, or the folder of a DICOM series.
    localiser : Localiser
        The localiser.
    frame : int, optional
        Volume of a 4-D scan.
    ct : bool
        Whether intensities are Hounsfield units, which are clipped to 0 to 80.

    Returns
    -------
    volume : Volume
        The scan as it was read.
    finding : Finding

    Raises
    ------
    InputError
        If the scan cannot be read.
    """
    began = time.perf_counter()
    with as_nifti(path) as file:
        volume = read_volume(file, frame=frame)
    read = time.perf_counter() - began
    finding = find_organ(volume, localiser, ct=ct)
    return volume, replace(finding, path=path, seconds={'read': read, **finding.seconds})


def find_organ(volume: Volume, localiser: Localiser, *, ct: bool = False) -> Finding:
    """Find the organ of a localiser in a scan that was read; see `locate` for the parameters."""
    began = time.perf_counter()
    data = clip_hounsfield(volume.data) if ct else volume.data
    located = localiser(data, volume.geometry)
    seconds = {'find': time.perf_counter() - began}
    path = volume.path or Path('volume')
    return Finding(path, localiser.organ, located, volume.geometry.vox2ras, seconds)


def cropped(volume: Volume, box: Box, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """Cut the part of a volume in a box.

    Parameters
    ----------
    volume : Volume
        The volume.
    box : tuple of 3 (int, int)
        First and last voxel along each axis, both included.
    margin : float
        What to keep around the box, mm, as far as the field of view goes.

    Returns
    -------
    data : (X, Y, Z) array
        A copy.
    affine : (4, 4) float64
        Its voxel index to RAS+ mm.
    """
    sides = []
    for (first, last), length, zoom in zip(
        box, volume.data.shape, volume.geometry.zooms, strict=True
    ):
        more = int(np.ceil(margin / float(zoom)))
        sides.append(slice(max(0, first - more), min(length, last + 1 + more)))
    affine = volume.geometry.vox2ras.astype(np.float64)
    affine[:3, 3] += affine[:3, :3] @ np.array([side.start for side in sides])
    x, y, z = sides
    return np.array(volume.data[x, y, z], order='F'), affine

"""Where a scan has the organ that a model labels: found once, for conforming and for clean-up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ...image.beyond import labels_beyond
from ...image.geometry import Geometry
from ...image.io import Volume
from ...models.spec import ModelSpec, load_spec
from ...models.zoo import find_model
from .localiser import Localiser
from .orientation import disagree
from .report import Box, Finding, box_in_mm, find_organ

AUTO, NONE = 'auto', 'none'
# Below this certainty nothing follows from a box.
LEAST_CERTAINTY = 0.25
# Labels may lie this far outside of the box, mm: its faces are nearly always beyond the brain's
# ends, and models label fluid and meninges up to 5 mm around the brain.
MARGIN_MM = 13.0
# Area of labels that may go on beyond a face of that larger box, cm^2; more are an organ that a
# wrong box would cut. Raw labels of `tissue` on four scans: up to 2, and below, where there is a
# neck, up to 30; beyond boxes of which 25 mm are missing 20 to 70, and below 37 (from 4 where the
# scan ends there).
MOST_ACROSS_CM2, MOST_BELOW_CM2 = 10.0, 33.0


@dataclass(frozen=True, eq=False)
class Localisation:
    """What a localiser found in a scan, and what followed from it.

    Parameters
    ----------
    organ : str
        Name of what was sought.
    localiser, sha256 : str
        Name and checksum of the localiser.
    affine : (4, 4) array
        Voxel index of the scan to RAS+ mm.
    box : tuple of 3 (int, int), or None
        First and last voxel of the organ along each axis; None if it was not found.
    certainty : float
        That of the least certain end, 0 to 1.
    seen, header : str
        Axis codes by what is seen and by the header, with ``R`` for left and right; ``seen`` is
        empty if the localiser does not tell.
    orientation_certainty : float
        Certainty of ``seen``.
    moved_mm : tuple of 3 float, or None
        See `Conformed`.
    removed_voxels : int
        Voxels far from the organ whose label was removed, in the conformed grid.
    across_cm2 : float
        Area of labels that go on beyond a face of the box and its margin; of the face where it
        is largest in relation to its limit.
    cuts : bool
        Whether that is so much that the box seems to cut the organ; no label is removed then.
    """

    organ: str
    localiser: str
    sha256: str
    affine: np.ndarray
    box: Box | None = None
    certainty: float = 0.0
    seen: str = ''
    header: str = ''
    orientation_certainty: float = 0.0
    moved_mm: tuple[float, ...] | None = None
    removed_voxels: int = 0
    across_cm2: float = 0.0
    cuts: bool = False

    @classmethod
    def of(cls, finding: Finding, spec: ModelSpec) -> 'Localisation':
        """Take what a localiser found."""
        sector, located = finding.located.sector, finding.located
        return cls(
            finding.organ,
            spec.name,
            spec.sha256,
            np.asarray(finding.affine, np.float64),
            finding.box,
            0.0 if sector is None else round(sector.certainty, 3),
            ''.join(located.codes or ()),
            ''.join(located.header_codes),
            round(located.orientation_certainty, 3),
        )

    @cached_property
    def region(self) -> Geometry | None:
        """The box as a grid; None if nothing was found, or not with certainty."""
        if self.box is None or self.certainty < LEAST_CERTAINTY:
            return None
        first, shape = zip(*((low, high - low + 1) for low, high in self.box), strict=True)
        affine = self.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ first
        return Geometry.from_affine(affine, shape)

    @property
    def disagrees(self) -> bool:
        """Whether the header's directions of axes disagree with what is certainly seen."""
        return disagree(self.seen, self.header, self.orientation_certainty)

    @property
    def _limits(self) -> np.ndarray:
        """Area of labels that may go on beyond each face, (3, 2) cm^2."""
        limits = np.full((3, 2), MOST_ACROSS_CM2)
        for axis, code in enumerate(self.seen if self.disagrees else self.header):
            if code in 'SI':
                limits[axis, int(code == 'I')] = MOST_BELOW_CM2
        return limits

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of a sidecar."""
        found: dict[str, Any] = {
            'Organ': self.organ,
            'Localiser': {'Name': self.localiser, 'SHA256': self.sha256},
            'Affine': self.affine.tolist(),
            'Found': self.box is not None,
        }
        if self.box is not None:
            place = np.round(box_in_mm(self.box, self.affine), 2)
            found |= {
                'BoxVoxels': [list(side) for side in self.box],
                'BoxMM': place.tolist(),
                'Certainty': self.certainty,
            }
        if self.seen:
            found['Orientation'] = {
                'Seen': self.seen,
                'Header': self.header,
                'Certainty': self.orientation_certainty,
            }
        found |= {
            'FieldMovedMM': None if self.moved_mm is None else list(self.moved_mm),
            'LabelsRestricted': self.region is not None and not self.cuts,
            'MarginMM': MARGIN_MM,
            'RemovedVoxels': self.removed_voxels,
            'LabelsAcrossCM2': self.across_cm2,
            'BoxCutsLabels': self.cuts,
        }
        return found

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> 'Localisation':
        """Read what `to_dict` returns."""
        seen, moved = entry.get('Orientation', {}), entry.get('FieldMovedMM')
        box: Box | None = None
        if entry['Found']:
            x, y, z = ((low, high) for low, high in entry['BoxVoxels'])
            box = (x, y, z)
        return cls(
            entry['Organ'],
            entry['Localiser']['Name'],
            entry['Localiser']['SHA256'],
            np.array(entry['Affine'], np.float64),
            box,
            entry.get('Certainty', 0.0),
            seen.get('Seen', ''),
            seen.get('Header', ''),
            seen.get('Certainty', 0.0),
            None if moved is None else tuple(moved),
            entry['RemovedVoxels'],
            entry['LabelsAcrossCM2'],
            entry['BoxCutsLabels'],
        )

    def restrict(self, labels: np.ndarray, grid: Geometry) -> tuple[np.ndarray, 'Localisation']:
        """Remove labels far from the organ.

        Parameters
        ----------
        labels : (X, Y, Z) array
            Labels.
        grid : Geometry
            Their grid.

        Returns
        -------
        labels : (X, Y, Z) array
            0 where more than 13 mm outside of the box; unchanged if the organ was not found with
            certainty, or if labels go on beyond a face of the box over so large an area that the
            box may cut the organ.
        localisation : Localisation
            This, with the number of removed voxels.
        """
        if self.region is None:
            return labels, self
        beyond = labels_beyond(labels, grid, self.region, MARGIN_MM)
        shares = beyond.area_cm2 / self._limits
        across = float(beyond.area_cm2.flat[shares.argmax()])
        found = replace(self, across_cm2=round(across, 1), cuts=bool(shares.max() > 1))
        if found.cuts:
            return labels, found
        removed = int(np.count_nonzero(beyond.mask))
        kept = np.where(beyond.mask, labels.dtype.type(0), labels) if removed else labels
        return kept, replace(found, removed_voxels=removed)


def localise_scan(
    volume: Volume, folder: Path, *, ct: bool = False, threads: int = 1
) -> Localisation:
    """Find an organ in a scan.

    Parameters
    ----------
    volume : Volume
        The scan.
    folder : Path
        Folder of the localiser, which is loaded once for all scans of a process.
    ct : bool
        Whether intensities are Hounsfield units.
    threads : int
        Number of threads.

    Returns
    -------
    Localisation

    Raises
    ------
    ModelError
        If it is no localiser.
    """
    localiser, spec = load_localiser(folder, threads)
    return Localisation.of(find_organ(volume, localiser, ct=ct), spec)


@lru_cache(maxsize=1)
def load_localiser(folder: Path, threads: int = 1) -> tuple[Localiser, ModelSpec]:
    """Load a localiser, once in a process; see `Localiser` for errors."""
    spec = load_spec(folder)
    return Localiser.of(spec, threads), spec


def find_localiser(
    choice: str, specs: Sequence[ModelSpec], models_dir: Path | None = None
) -> Path | None:
    """Return the folder of the localiser of models.

    Parameters
    ----------
    choice : str
        Its name or folder, ``'auto'`` for that of the first model that names one, or ``'none'``.
    specs : sequence of ModelSpec
        The models of the run. What they name is also searched beside their folders.
    models_dir : Path, optional
        A folder of model folders, which is searched last.

    Returns
    -------
    Path or None
        None if there is none.

    Raises
    ------
    ModelError
        If it is not installed.
    """
    if choice == NONE:
        return None
    if choice != AUTO:
        return find_model(choice, models_dir)
    for spec in specs:
        if spec.localiser is not None:
            return find_model(spec.localiser, models_dir or spec.folder.parent)
    return None


def restricts(
    localiser: Path | None, choice: str, spec: ModelSpec, models_dir: Path | None = None
) -> bool:
    """Return whether labels of a model are removed far from what the localiser of a run finds.

    Parameters
    ----------
    localiser : Path or None
        The localiser of all models of the run, as `find_localiser` returns it.
    choice, models_dir
        As for `find_localiser`.
    spec : ModelSpec
        The model.
    """
    return localiser is not None and find_localiser(choice, [spec], models_dir) == localiser

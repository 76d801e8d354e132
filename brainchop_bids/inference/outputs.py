"""Images and tables that `brainchop_bids.inference.scan.segment_scan` writes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..image.conform import Conformed
from ..image.geometry import Geometry
from ..image.io import Volume, save_image, save_nifti
from ..image.lookup import recode
from ..image.resample import image_to_grid
from ..models.labels import Label
from ..models.spec import ModelSpec
from ..system.atomic import Staged, writing
from .memmap import create_array
from .scan_settings import ScanSettings
from .stages import Cleaned, probabilities_to_grid, strip_skull, tabulate_volumes


@dataclass(frozen=True, eq=False)
class Segmented:
    """A scan that was segmented; images are in the grid of the outputs, see `ScanOptions`.

    Parameters
    ----------
    volume : Volume
        The scan.
    conformed : Conformed
        The conformed scan.
    cleaned : Cleaned
        Labels by their indices, and the brain mask.
    labels : (X, Y, Z) array
        Labels by their values, of those that were asked for.
    mask : (X, Y, Z) array or None
        The brain mask with its border moved.
    names : dict of int to Label
        The labels by their values, with those that do not occur.
    in_conformed : Cleaned
        Labels by their indices, and the brain mask, in the conformed grid.
    facts : dict
        See `segment_scan`.
    """

    volume: Volume
    conformed: Conformed
    cleaned: Cleaned
    labels: np.ndarray
    mask: np.ndarray | None
    names: dict[int, Label]
    in_conformed: Cleaned
    facts: dict[str, Any]


@dataclass(frozen=True)
class Outputs:
    """The outputs of one scan, all in the grid that the settings choose.

    Parameters
    ----------
    settings : ScanSettings
        Settings of the scan.
    spec : ModelSpec
        The model.
    staged : Staged
        Files that are written.
    """

    settings: ScanSettings
    spec: ModelSpec
    staged: Staged

    @property
    def native(self) -> bool:
        """True if outputs are in the scan's own grid, False if they are in the conformed one."""
        return self.settings.space == 'native'

    @property
    def masked(self) -> bool:
        """Whether the brain mask is needed."""
        return self.settings.mask is not None or self.settings.brain is not None

    def geometry(self, volume: Volume, conformed: Conformed) -> Geometry:
        """Return the grid of the outputs."""
        return volume.geometry if self.native else conformed.geometry

    def placed(self, volume: Volume, conformed: Conformed) -> dict[str, Any]:
        """Return the arguments of `save_image` that define the grid."""
        return {'like': volume} if self.native else {'affine': conformed.affine}

    def save(self, path: Path, image: np.ndarray, **arguments: Any) -> None:
        """Write an image.

        Parameters
        ----------
        path : Path
            Name of the image.
        image : (X, Y, Z) or (X, Y, Z, classes) array
            The image.
        **arguments
            Arguments of `save_image`.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        with writing(path):
            save_image(self.staged.path(path), image, **arguments)

    def write(self, found: Segmented) -> None:
        """Write labels, brain mask, skull-stripped scan and volumes.

        Parameters
        ----------
        found : Segmented
            The scan.

        Raises
        ------
        OutputError
            If a file cannot be written.
        """
        settings = self.settings
        placed = self.placed(found.volume, found.conformed)
        names = {value: (label.name, label.color) for value, label in found.names.items()}
        tables = {derived.name: derived.values for derived in self.spec.derived}
        for name, path in settings.derived:
            image = recode(found.cleaned.labels, tables[name])
            self.save(path, image, labels=True, **placed)
        self.save(settings.out, found.labels, labels=True, names=names, **placed)
        if settings.mask is not None and found.mask is not None:
            self.save(settings.mask, found.mask, labels=True, **placed)
        if settings.brain is not None and found.mask is not None:
            whole = found.volume.data if self.native else found.conformed.data
            self.save(settings.brain, strip_skull(whole, found.mask), **placed)
        if settings.volumes is not None:
            with writing(settings.volumes):
                grid = self.geometry(found.volume, found.conformed)
                table, _ = tabulate_volumes(
                    found.labels,
                    grid,
                    {value: name for value, (name, _) in names.items()},
                    found.facts['confidence'],
                )
                self.staged.path(settings.volumes).write_text(table, 'utf-8', newline='\n')

    def create_volumes(
        self, path: Path, shape: tuple[int, ...], placed: dict[str, Any]
    ) -> np.ndarray:
        """Create a 4-D float32 image of zeros on the disk.

        Parameters
        ----------
        path : Path
            Name of the image: ``.nii``, or another one that `save` will write.
        shape : tuple of 4 int
            Its shape.
        placed : dict
            As `placed` returns it.

        Returns
        -------
        (X, Y, Z, classes) float32 array
            Mapped to the voxels of the image, or for other names to a temporary file.
        """
        if path.suffix != '.nii':
            return create_array(self.staged.scratch(path), shape)
        import nibabel as nib

        path = self.staged.path(path)
        save_nifti(path, np.zeros(shape[:3], np.float32, order='F'), **placed)
        header = nib.Nifti1Image.from_filename(path).header.copy()
        header.set_data_shape(shape)
        offset = int(header['sizeof_hdr']) + 4
        header['vox_offset'] = offset
        volumes = create_array(path, shape, offset)
        with path.open('r+b') as file:
            file.write(header.binaryblock)
        return volumes


class Posterior:
    """Class probabilities and their uncertainty in the conformed grid, as far as are written.

    Parameters
    ----------
    outputs : Outputs
        Outputs of the scan.
    volume : Volume
        The scan.
    conformed : Conformed
        The conformed scan.

    Attributes
    ----------
    probabilities : (X, Y, Z, classes) float32 array or None
        To be filled by the network.
    maps : dict of str to (X, Y, Z) float32 array
        ``entropies`` and ``spreads``, to be filled by the network. They are on the disk.
    """

    def __init__(self, outputs: Outputs, volume: Volume, conformed: Conformed) -> None:
        self._outputs = outputs
        self._source, self._target = conformed.geometry, outputs.geometry(volume, conformed)
        self._placed = outputs.placed(volume, conformed)
        self._path = path = outputs.settings.probseg
        self.probabilities: np.ndarray | None = None
        shape = conformed.data.shape
        if path is not None:
            with writing(path):
                classes = outputs.spec.classes
                final = (*self._target.shape, classes)
                self._final = outputs.create_volumes(path, final, self._placed)
                self.probabilities = self._final
                if outputs.native:
                    scratch = outputs.staged.scratch(path)
                    self.probabilities = create_array(scratch, (*shape, classes))
        self.maps: dict[str, np.ndarray] = {}
        self._paths = {
            'entropies': outputs.settings.uncertainty,
            'spreads': outputs.settings.spread,
        }
        for name, image in self._paths.items():
            if image is not None:
                with writing(image):
                    self.maps[name] = create_array(outputs.staged.scratch(image), shape)

    def write(self) -> None:
        """Write what was filled, in the grid of the outputs.

        Raises
        ------
        OutputError
            If a file cannot be written.
        """
        outputs, path = self._outputs, self._path
        source, target = self._source, self._target
        for name, values in self.maps.items():
            image = self._paths[name]
            if image is not None:
                # What is outside the conformed field of view is certainly background.
                moved = image_to_grid(values, source, target) if outputs.native else values
                outputs.save(image, moved, **self._placed)
        if path is None or self.probabilities is None:
            return
        if outputs.native:
            resampled = probabilities_to_grid(self.probabilities, source, target)
            for index, probability in enumerate(resampled):
                self._final[..., index] = probability
        if path.suffix != '.nii':
            outputs.save(path, self._final, **self._placed)

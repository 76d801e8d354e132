"""Images and tables that `brainchop_bids.inference.scan.segment_scan` writes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..image.border import move_border
from ..image.conform import Conformed
from ..image.geometry import Geometry
from ..image.io import Volume, save_image, save_nifti
from ..image.lookup import recode
from ..image.resample import image_to_grid
from ..models.spec import ModelSpec
from ..system.atomic import Staged, writing
from .memmap import create_array
from .scan_settings import ScanSettings
from .stages import Cleaned, probabilities_to_grid, strip_skull, tabulate_volumes


@dataclass(frozen=True)
class Outputs:
    """The outputs of one scan, all in the grid that the settings choose.

    Parameters
    ----------
    settings : ScanSettings
        Settings of the scan.
    spec : ModelSpec
        The model.
    volume : Volume
        The scan.
    conformed : Conformed
        The conformed scan.
    staged : Staged
        Files that are written.
    """

    settings: ScanSettings
    spec: ModelSpec
    volume: Volume
    conformed: Conformed
    staged: Staged

    @property
    def native(self) -> bool:
        """True if outputs are in the scan's own grid, False if they are in the conformed one."""
        return self.settings.space == 'native'

    @property
    def geometry(self) -> Geometry:
        """Grid of the outputs."""
        return self.volume.geometry if self.native else self.conformed.geometry

    @property
    def _placed(self) -> dict[str, Any]:
        """Arguments of `save_image` that define the grid."""
        return {'like': self.settings.t1w} if self.native else {'affine': self.conformed.affine}

    def save(self, path: Path, image: np.ndarray, *, labels: bool = False) -> None:
        """Write an image in the grid of the outputs.

        Parameters
        ----------
        path : Path
            Name of the image.
        image : (X, Y, Z) or (X, Y, Z, classes) array
            The image.
        labels : bool
            True if it has labels.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        with writing(path):
            save_image(self.staged.path(path), image, labels=labels, **self._placed)

    def write(self, cleaned: Cleaned) -> None:
        """Write labels, brain mask, skull-stripped scan and volumes.

        Parameters
        ----------
        cleaned : Cleaned
            Labels and mask in the grid of the outputs.

        Raises
        ------
        OutputError
            If a file cannot be written.
        """
        settings, spec = self.settings, self.spec
        labels, mask = cleaned.labels, cleaned.mask
        tables = {derived.name: derived.values for derived in spec.derived}
        images = [(path, recode(labels, tables[name])) for name, path in settings.derived]
        if settings.label_codes != 'model':
            labels = recode(labels, spec.label_values(settings.label_codes))
        if mask is not None:
            mask = move_border(mask, self.geometry.zooms, settings.border)
        for path, image in (*images, (settings.out, labels), (settings.mask, mask)):
            if path is not None and image is not None:
                self.save(path, image, labels=True)
        if settings.brain is not None and mask is not None:
            whole = self.volume.data if self.native else self.conformed.data
            self.save(settings.brain, strip_skull(whole, mask))
        if settings.volumes is not None:
            with writing(settings.volumes):
                named = spec.labels_by_value(settings.label_codes)
                names = {value: label.name for value, label in named.items()}
                table, _ = tabulate_volumes(labels, self.geometry, names)
                self.staged.path(settings.volumes).write_text(table, 'utf-8')

    def create_volumes(self, path: Path, classes: int) -> np.ndarray:
        """Create a 4-D float32 image of zeros on the disk.

        Parameters
        ----------
        path : Path
            Name of the image: ``.nii``, or another one that `save` will write.
        classes : int
            Number of volumes.

        Returns
        -------
        (X, Y, Z, classes) float32 array
            Mapped to the voxels of the image, or for other names to a temporary file.
        """
        shape = self.geometry.shape
        if path.suffix != '.nii':
            return create_array(self.staged.scratch(path), (*shape, classes))
        import nibabel as nib

        path = self.staged.path(path)
        save_nifti(path, np.zeros(shape, np.float32, order='F'), **self._placed)
        header = nib.Nifti1Image.from_filename(path).header.copy()
        header.set_data_shape((*shape, classes))
        offset = int(header['sizeof_hdr']) + 4
        header['vox_offset'] = offset
        volumes = create_array(path, (*shape, classes), offset)
        with path.open('r+b') as file:
            file.write(header.binaryblock)
        return volumes


class Posterior:
    """Class probabilities and their uncertainty in the conformed grid, as far as are written.

    Parameters
    ----------
    outputs : Outputs
        Outputs of the scan.

    Attributes
    ----------
    probabilities : (X, Y, Z, classes) float32 array or None
        To be filled by the network.
    maps : dict of str to (X, Y, Z) float32 array
        ``entropies`` and ``spreads``, to be filled by the network. They are on the disk.
    """

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs
        self._path = path = outputs.settings.probseg
        self.probabilities: np.ndarray | None = None
        shape = outputs.conformed.data.shape
        if path is not None:
            with writing(path):
                classes = outputs.spec.classes
                self._final = outputs.create_volumes(path, classes)
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
        source, target = outputs.conformed.geometry, outputs.geometry
        for name, values in self.maps.items():
            image = self._paths[name]
            if image is not None:
                # What is outside the conformed field of view is certainly background.
                moved = image_to_grid(values, source, target) if outputs.native else values
                outputs.save(image, moved)
        if path is None or self.probabilities is None:
            return
        if outputs.native:
            resampled = probabilities_to_grid(self.probabilities, source, target)
            for index, probability in enumerate(resampled):
                self._final[..., index] = probability
        if path.suffix != '.nii':
            outputs.save(path, self._final)

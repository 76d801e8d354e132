"""Interfaces that resample maps of real numbers."""

from pathlib import Path
from typing import Any

from nipype.interfaces.base import BaseInterfaceInputSpec, File, traits

from .base import StepInterface, StepOutputSpec


class ResampleProbabilitiesInputSpec(BaseInterfaceInputSpec):
    """Inputs of `ResampleProbabilities`."""

    in_file = File(exists=True, mandatory=True, desc='probabilities, 4-D, one volume per label')
    reference = File(exists=True, mandatory=True, desc='image whose grid is used')


class ResampleProbabilitiesOutputSpec(StepOutputSpec):
    """Outputs of `ResampleProbabilities`."""

    out_files = traits.List(File(exists=True), desc='probability map of each label, 3-D')


class ResampleProbabilities(StepInterface):
    """Resample probabilities to the grid of another file, label by label.

    Examples
    --------
    >>> to_scan = ResampleProbabilities(
    ...     in_file='probabilities.nii', reference='T1w.nii.gz'
    ... )  # doctest: +SKIP
    """

    input_spec = ResampleProbabilitiesInputSpec
    output_spec = ResampleProbabilitiesOutputSpec

    def _work(self, cwd: Path) -> dict[str, Any]:
        import nibabel as nib

        from ..image.io import read_geometry, save_nifti
        from ..inference.stages import probabilities_to_grid

        volumes: Any = nib.Nifti1Image.from_filename(self.inputs.in_file).dataobj
        source, _ = read_geometry(self.inputs.in_file)
        target, _ = read_geometry(self.inputs.reference)
        out_files = []
        for index, resampled in enumerate(probabilities_to_grid(volumes, source, target)):
            path = cwd / f'probability_{index:03d}.nii'
            out_files.append(str(save_nifti(path, resampled, like=Path(self.inputs.reference))))
        return {'out_files': out_files}


class ResampleMapsInputSpec(BaseInterfaceInputSpec):
    """Inputs of `ResampleMaps`."""

    in_files = traits.List(File(exists=True), mandatory=True, desc='images on one grid')
    reference = File(exists=True, mandatory=True, desc='image whose grid is used')
    out_names = traits.List(traits.Str, mandatory=True, desc='file names of the results')


class ResampleMapsOutputSpec(StepOutputSpec):
    """Outputs of `ResampleMaps`."""

    out_files = traits.List(File(exists=True), desc="images in the reference's grid")


class ResampleMaps(StepInterface):
    """Resample images linearly to the grid of another file; outside of their own they are 0.

    Examples
    --------
    >>> to_scan = ResampleMaps(
    ...     in_files=['entropy_conform.nii'], reference='T1w.nii.gz', out_names=['entropy.nii']
    ... )  # doctest: +SKIP
    """

    input_spec = ResampleMapsInputSpec
    output_spec = ResampleMapsOutputSpec

    def _work(self, cwd: Path) -> dict[str, Any]:
        from ..image.io import read_geometry, read_volume, save_nifti
        from ..image.resample import image_to_grid

        like = Path(self.inputs.reference)
        target, _ = read_geometry(like)
        out_files = []
        for file, name in zip(self.inputs.in_files, self.inputs.out_names, strict=True):
            volume = read_volume(file)
            moved = image_to_grid(volume.data, volume.geometry, target)
            out_files.append(str(save_nifti(cwd / name, moved, like=like)))
        return {'out_files': out_files}

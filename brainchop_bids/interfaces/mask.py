"""Interfaces that work with the brain mask."""

from pathlib import Path
from typing import Any

from nipype.interfaces.base import BaseInterfaceInputSpec, File, isdefined, traits

from .base import StepInterface, StepOutputSpec


class MoveBorderInputSpec(BaseInterfaceInputSpec):
    """Inputs of `MoveBorder`."""

    in_file = File(exists=True, mandatory=True, desc='mask')
    border = traits.Float(mandatory=True, desc='distance in mm, negative to shrink')
    out_file = File('mask_border.nii', usedefault=True, desc='file name of the result')


class MoveBorderOutputSpec(StepOutputSpec):
    """Outputs of `MoveBorder`."""

    out_file = File(exists=True, desc='mask that was grown or shrunk')


class MoveBorder(StepInterface):
    """Grow or shrink a mask by a distance in mm.

    Examples
    --------
    >>> grow = MoveBorder(in_file='mask.nii', border=2.0)  # doctest: +SKIP
    """

    input_spec = MoveBorderInputSpec
    output_spec = MoveBorderOutputSpec

    def _work(self, cwd: Path) -> dict[str, Any]:
        from ..image.border import check_border, move_border
        from ..image.io import load_labels, save_nifti

        mask, geometry = load_labels(self.inputs.in_file)
        moved = move_border(mask, geometry.zooms, check_border(self.inputs.border))
        like, out_file = Path(self.inputs.in_file), cwd / self.inputs.out_file
        return {'out_file': str(save_nifti(out_file, moved, like=like, labels=True))}


class StripSkullInputSpec(BaseInterfaceInputSpec):
    """Inputs of `StripSkull`."""

    in_file = File(exists=True, mandatory=True, desc='scan')
    mask = File(exists=True, mandatory=True, desc="brain mask in the scan's grid")
    frame = traits.Int(desc='frame of a 4-D file, counted from 0')


class StripSkullOutputSpec(StepOutputSpec):
    """Outputs of `StripSkull`."""

    out_file = File(exists=True, desc='scan that is 0 outside the mask')


class StripSkull(StepInterface):
    """Set a scan to 0 outside its brain mask.

    Examples
    --------
    >>> strip = StripSkull(in_file='sub-01_T1w.nii.gz', mask='mask.nii')  # doctest: +SKIP
    """

    input_spec = StripSkullInputSpec
    output_spec = StripSkullOutputSpec

    def _work(self, cwd: Path) -> dict[str, Any]:
        from ..image.io import load_labels, read_volume, save_nifti
        from ..inference.stages import strip_skull

        frame = self.inputs.frame if isdefined(self.inputs.frame) else None
        volume = read_volume(self.inputs.in_file, frame=frame)
        mask, _ = load_labels(self.inputs.mask)
        brain = strip_skull(volume.data, mask)
        like = Path(self.inputs.in_file)
        return {'out_file': str(save_nifti(cwd / 'brain.nii', brain, like=like))}

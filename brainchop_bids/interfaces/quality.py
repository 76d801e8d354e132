"""Interface to `brainchop_bids.quality`."""

from pathlib import Path
from typing import Any

from nipype.interfaces.base import BaseInterfaceInputSpec, File, isdefined, traits

from .base import StepInterface, StepOutputSpec


class AssessQualityInputSpec(BaseInterfaceInputSpec):
    """Inputs of `AssessQuality`."""

    in_file = File(exists=True, mandatory=True, desc='scan')
    frame = traits.Int(desc='frame of a 4-D file, counted from 0')
    labels = File(exists=True, mandatory=True, desc="labels in the scan's grid")
    mask = File(exists=True, desc="brain mask in the scan's grid")
    names = traits.Dict(traits.Int, traits.Str, mandatory=True, desc='name of each label')
    tissues = traits.Dict(
        traits.Int,
        traits.Int,
        mandatory=True,
        desc='label to tissue: 1 grey matter, 2 white matter, 3 fluid',
    )
    covers_brain = traits.Bool(True, usedefault=True, desc='True if the labels cover the brain')
    removed_voxels = traits.Int(0, usedefault=True, desc='voxels that the component rule removed')
    conformed = File(exists=True, desc='image in whose grid they were removed')


class AssessQualityOutputSpec(StepOutputSpec):
    """Outputs of `AssessQuality`."""

    measures = traits.Dict(traits.Str, traits.Float, desc="image quality, MRIQC's names")
    flags = traits.List(traits.Dict, desc='flags: Name, Value, Reason')


class AssessQuality(StepInterface):
    """Measure a scan's quality and check its labels for plausibility.

    Examples
    --------
    >>> quality = AssessQuality(
    ...     in_file='sub-01_T1w.nii.gz', labels='dseg.nii', mask='mask.nii',
    ...     names={0: 'BG', 1: 'GM', 2: 'WM'}, tissues={1: 1, 2: 2},
    ... )  # doctest: +SKIP
    >>> quality.run().outputs.flags  # doctest: +SKIP
    []
    """

    input_spec = AssessQualityInputSpec
    output_spec = AssessQualityOutputSpec

    def _work(self, cwd: Path) -> dict[str, Any]:
        from ..image.io import load_labels, read_geometry, read_volume
        from ..quality.assess import LabelScheme, assess

        inputs = self.inputs
        frame = inputs.frame if isdefined(inputs.frame) else None
        volume = read_volume(inputs.in_file, frame=frame)
        labels, _ = load_labels(inputs.labels)
        mask = load_labels(inputs.mask)[0] if isdefined(inputs.mask) else None
        scheme = LabelScheme(dict(inputs.names), dict(inputs.tissues), inputs.covers_brain)
        # Components are removed in the conformed grid.
        voxel = read_geometry(inputs.conformed)[0].voxel_volume if inputs.removed_voxels else 0.0
        assessment = assess(
            volume, labels, mask, scheme, removed_mm3=inputs.removed_voxels * voxel
        )
        flags = [flag.to_dict() for flag in assessment.flags]
        return {'measures': assessment.measures, 'flags': flags}

"""Interfaces that draw the figure and write the derivatives of one scan."""

from pathlib import Path
from typing import Any

from nipype.interfaces.base import BaseInterfaceInputSpec, File, TraitedSpec, isdefined, traits

from ..bids.derivatives import ScanOutputs, fingerprint, write_scan
from ..bids.names import ScanName
from .base import StepInterface, StepOutputSpec


class MosaicInputSpec(BaseInterfaceInputSpec):
    """Inputs of `Mosaic`."""

    in_file = File(exists=True, mandatory=True, desc='conformed scan')
    labels = File(exists=True, mandatory=True, desc='labels in its grid')
    mask = File(exists=True, mandatory=True, desc='brain mask in its grid')
    colors = traits.Dict(
        traits.Int,
        traits.Tuple(traits.Int, traits.Int, traits.Int),
        mandatory=True,
        desc='colour of labels',
    )


class MosaicOutputSpec(StepOutputSpec):
    """Outputs of `Mosaic`."""

    out_file = File(exists=True, desc='WebP picture')


class Mosaic(StepInterface):
    """Draw labels over a scan in three planes.

    Examples
    --------
    >>> mosaic = Mosaic(
    ...     in_file='conformed.nii', labels='dseg.nii', mask='mask.nii', colors={0: (0, 0, 0)}
    ... )  # doctest: +SKIP
    """

    input_spec = MosaicInputSpec
    output_spec = MosaicOutputSpec

    def _work(self, cwd: Path) -> dict[str, Any]:
        from ..image.io import load_labels
        from ..reports.mosaic import render_mosaic

        image, geometry = load_labels(self.inputs.in_file)
        labels, mask = (load_labels(path)[0] for path in (self.inputs.labels, self.inputs.mask))
        size = float(geometry.zooms[0])
        out_file = cwd / 'mosaic.webp'
        colors = dict(self.inputs.colors)
        render_mosaic(image, labels, colors, out_file, mask=mask, voxel_size=size)
        return {'out_file': str(out_file)}


class WriteDerivativesInputSpec(BaseInterfaceInputSpec):
    """Inputs of `WriteDerivatives`."""

    output_dir = traits.Str(mandatory=True, desc='root of the derivative dataset')
    source = traits.Str(mandatory=True, desc='path of the scan in its dataset')
    slug = traits.Str(mandatory=True, desc="the model's name in file names")
    # A name, not a file: a scan that is gone must fail in its own first step, not here.
    source_file = traits.Str(mandatory=True, desc='the scan')
    other_files = traits.List(traits.Str, desc='other scans that the model took')
    recipe = traits.Dict(mandatory=True, desc='settings that change results')
    model = traits.Dict(mandatory=True, desc='facts about the model, for the sidecar')
    rule = traits.Str(mandatory=True, desc='components rule')
    abbreviations = traits.List(traits.Str, desc='of the labels, for probability maps')
    preproc = File(exists=True, mandatory=True)
    dseg_conform = File(exists=True, mandatory=True)
    dseg = File(exists=True, mandatory=True)
    mask = File(exists=True, desc='brain mask, where this model makes it')
    brain = File(exists=True, desc='scan without skull')
    volumes = File(exists=True, mandatory=True)
    mosaic = File(exists=True, mandatory=True)
    probabilities = traits.List(File(exists=True))
    warnings = traits.List(traits.Str)
    engine = traits.Str()
    normalization = traits.Str()
    removed_components = traits.Int()
    removed_voxels = traits.Int()
    brain_volume = traits.Float()
    peak_mb = traits.Float()
    conform_seconds = traits.Float()
    segment_seconds = traits.Float()
    components_seconds = traits.Float()
    resample_seconds = traits.Float()
    mosaic_seconds = traits.Float()
    quality_seconds = traits.Float()
    measures = traits.Dict(traits.Str, traits.Float)
    flags = traits.List(traits.Dict)


class WriteDerivativesOutputSpec(TraitedSpec):
    """Outputs of `WriteDerivatives`."""

    out_file = File(exists=True, desc='labels in the grid of the scan')


class WriteDerivatives(StepInterface):
    """Write the derivatives of one scan, all of them or none.

    Always runs: the output folder may have been emptied while the work folder was kept.
    """

    input_spec = WriteDerivativesInputSpec
    output_spec = WriteDerivativesOutputSpec
    _always_run = True

    def _run_interface(self, runtime: Any) -> Any:
        inputs = self.inputs
        name = ScanName.parse(inputs.source)
        outputs = ScanOutputs(Path(inputs.output_dir), name, inputs.slug)
        probsegs = {}
        if isdefined(inputs.probabilities):
            pairs = zip(inputs.abbreviations, inputs.probabilities, strict=True)
            # The background's probability is what the others leave.
            probsegs = {label: Path(path) for label, path in list(pairs)[1:]}
        keys = ('preproc', 'dseg_conform', 'mask', 'brain', 'dseg')
        images = {
            key: Path(getattr(inputs, key)) for key in keys if isdefined(getattr(inputs, key))
        }
        write_scan(
            outputs,
            source=inputs.source,
            images=images,
            volumes=Path(inputs.volumes),
            mosaic=Path(inputs.mosaic),
            probsegs=probsegs,
            record=self._record(),
        )
        self._results['out_file'] = str(outputs.dseg)
        return runtime

    def _record(self) -> dict[str, Any]:
        inputs = self.inputs
        steps = ('conform', 'segment', 'components', 'resample', 'mosaic', 'quality')
        seconds = {step: getattr(inputs, f'{step}_seconds') for step in steps}
        return {
            'Model': {**inputs.model, 'Normalization': inputs.normalization},
            'Engine': inputs.engine,
            'Components': {
                'Rule': inputs.rule,
                'RemovedComponents': inputs.removed_components,
                'RemovedVoxels': inputs.removed_voxels,
            },
            'Warnings': list(inputs.warnings),
            'Flags': list(inputs.flags) if isdefined(inputs.flags) else [],
            'Measures': dict(inputs.measures) if isdefined(inputs.measures) else {},
            **({'BrainVolume': volume} if isdefined(volume := inputs.brain_volume) else {}),
            'Seconds': {step: value for step, value in seconds.items() if isdefined(value)},
            'PeakMemoryMB': {'segment': inputs.peak_mb},
            'Brainchop': fingerprint(
                Path(inputs.source_file),
                inputs.model['SHA256'],
                dict(inputs.recipe),
                [Path(path) for path in inputs.other_files],
            ),
        }

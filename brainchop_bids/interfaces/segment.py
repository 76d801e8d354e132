"""Interface that runs the network in a separate process."""

from pathlib import Path
from typing import Any

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    Directory,
    File,
    InputMultiPath,
    isdefined,
    traits,
)

from ..inference.options import DEVICES, ENGINES, PRECISIONS
from .base import StepInterface, StepOutputSpec, measured


class SegmentInputSpec(BaseInterfaceInputSpec):
    """Inputs of `Segment`."""

    in_file = File(exists=True, mandatory=True, desc='conformed scan')
    out_file = File('dseg.nii', usedefault=True, desc='file name of the labels')
    channels = InputMultiPath(File(exists=True), desc='other scans of the head, conformed')
    model = Directory(exists=True, mandatory=True, desc='model folder')
    model_sha256 = traits.Str(desc='checksum of the model: a changed model is run again')
    computed_by = traits.Enum(*ENGINES, usedefault=True, desc='engine that runs the network')
    device = traits.Enum(*DEVICES, usedefault=True, desc='processor that runs the network')
    precision = traits.Enum(*PRECISIONS, usedefault=True, desc='numerical precision')
    crop = traits.Str(
        'auto', usedefault=True, desc='margin around the head: auto, none (compute all) or mm'
    )
    tta = traits.Bool(False, usedefault=True, desc='average with the left-right mirror image')
    subvolumes = traits.Str(desc='cubes in place of the whole volume, see Subvolumes')
    memory_gb = traits.Float(nohash=True, desc='memory that may be used, GB')
    memory_source = traits.Str(
        'memory_gb', usedefault=True, nohash=True, desc='origin of memory_gb, for messages'
    )
    normalization = traits.Str(desc="normalization of intensities in place of the model's own")
    probabilities = traits.Bool(
        False, usedefault=True, desc='write class probabilities, 4-D float32'
    )
    uncertainty = traits.Bool(
        False, usedefault=True, desc='write their entropy and, with tta, the spread, nats'
    )
    pool = traits.Str(nohash=True, desc='folder that worker_pool returned')
    num_threads = traits.Int(1, usedefault=True, nohash=True, desc='number of threads')


class SegmentOutputSpec(StepOutputSpec):
    """Outputs of `Segment`."""

    out_file = File(exists=True, desc='labels in the conformed grid')
    out_probabilities = File(exists=True, desc='class probabilities, 4-D')
    out_uncertainty = traits.List(File(exists=True), desc='entropy and, with tta, spread, nats')
    confidence = traits.Dict(
        traits.Str, traits.Float, desc='mean probability of each label, by name'
    )
    engine = traits.Str(desc='library that ran the network, and its version')
    normalization = traits.Str(desc='normalization of intensities')
    warnings = traits.List(traits.Str, desc='warnings about model and labels, one line each')


class Segment(StepInterface):
    """Label a conformed scan with a model, in a separate process.

    No components are removed, see `KeepComponents`. `FindModel` outputs the folder and the
    checksum of a model that is given by its name.

    Examples
    --------
    >>> segment = Segment(in_file='conformed.nii', model='/models/mine')  # doctest: +SKIP
    >>> segment.run().outputs.out_file  # doctest: +SKIP
    '.../dseg.nii'
    """

    input_spec = SegmentInputSpec
    output_spec = SegmentOutputSpec

    def _work(self, cwd: Path) -> dict[str, Any]:
        from ..inference.pool import Request, segment_in_pool, segment_in_process

        inputs = self.inputs
        settings = self._settings(cwd)
        request = Request(settings, Path(inputs.model), cwd)
        stats = None
        if isdefined(inputs.pool):
            stats = segment_in_pool(Path(inputs.pool), request)
        if stats is None:
            stats = segment_in_process(request)
        outputs = {
            'out_file': str(settings.out),
            'confidence': stats['confidence'],
            'engine': stats['engine'],
            'normalization': stats['normalization'],
            'warnings': stats['warnings'],
            **measured(stats['seconds']['total'], stats['peak_mb']),
        }
        if settings.probseg is not None:
            outputs['out_probabilities'] = str(settings.probseg)
        if settings.uncertainty is not None:
            maps = filter(None, (settings.uncertainty, settings.spread))
            outputs['out_uncertainty'] = list(map(str, maps))
        return outputs

    def _settings(self, cwd: Path) -> Any:
        from ..image.normalise import Normalization
        from ..inference.options import InferenceOptions
        from ..inference.scan_settings import ScanSettings
        from ..system.resources import Granted, available_cpus

        inputs = self.inputs
        memory = normalization = None
        if isdefined(inputs.memory_gb):
            memory = Granted(inputs.memory_gb, inputs.memory_source)
        if isdefined(inputs.normalization):
            normalization = Normalization.parse(inputs.normalization)
        return ScanSettings(
            t1w=Path(inputs.in_file),
            out=(cwd / inputs.out_file).absolute(),
            inference=InferenceOptions(
                engine=inputs.computed_by,
                device=inputs.device,
                precision=inputs.precision,
                crop=inputs.crop,
                tta=inputs.tta,
                subvolumes=inputs.subvolumes if isdefined(inputs.subvolumes) else None,
            ),
            memory=memory,
            channels=tuple(map(Path, inputs.channels)) if isdefined(inputs.channels) else (),
            space='conform',
            components='none',
            probseg=cwd / 'probabilities.nii' if inputs.probabilities else None,
            uncertainty=cwd / 'entropy_conform.nii' if inputs.uncertainty else None,
            normalization=normalization,
            localiser='none',
            threads=min(inputs.num_threads, int(available_cpus().amount)),
        )

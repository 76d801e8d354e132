"""Interfaces that draw the figures and write the derivatives of one scan."""

from pathlib import Path
from typing import Any

from nipype.interfaces.base import BaseInterfaceInputSpec, File, TraitedSpec, isdefined, traits

from ..bids.derivatives import MAPS, ScanOutputs, figure_kind, fingerprint
from ..bids.names import T1_LIKE, ScanName
from ..bids.writing import DerivedFiles, write_scan
from .base import StepInterface, StepOutputSpec


class DrawScanInputSpec(BaseInterfaceInputSpec):
    """Inputs of `DrawScan`."""

    in_file = File(exists=True, mandatory=True, desc='conformed scan')
    scan = File(exists=True, mandatory=True, desc='original scan')
    frame = traits.Int(desc='frame of a 4-D file, counted from 0')


class FiguresOutputSpec(StepOutputSpec):
    """Outputs of steps that draw."""

    figures = traits.Dict(traits.Str, traits.Str, desc='files by name of the figure')


class DrawScan(StepInterface):
    """Draw the figures of a scan that do not depend on the model.

    Examples
    --------
    >>> draw = DrawScan(in_file='conformed.nii', scan='sub-01_T1w.nii.gz')  # doctest: +SKIP
    """

    input_spec = DrawScanInputSpec
    output_spec = FiguresOutputSpec

    def _work(self, cwd: Path) -> dict[str, Any]:
        from ..image.io import read_volume
        from ..reports.figures.draw import draw_scan

        frame = self.inputs.frame if isdefined(self.inputs.frame) else None
        scan = read_volume(self.inputs.scan, frame=frame)
        return {'figures': _keep(draw_scan(scan, Path(self.inputs.in_file)), cwd)}


class DrawLabelsInputSpec(BaseInterfaceInputSpec):
    """Inputs of `DrawLabels`."""

    in_file = File(exists=True, mandatory=True, desc='conformed scan')
    labels = File(exists=True, mandatory=True, desc='labels in the conformed grid')
    mask = File(exists=True, mandatory=True, desc='brain mask in the conformed grid')
    colors = traits.Dict(
        traits.Int,
        traits.Tuple(traits.Int, traits.Int, traits.Int),
        mandatory=True,
        desc='colours of the labels',
    )
    uncertainty = traits.List(File(exists=True), desc='entropy in the conformed grid, nats')


class DrawLabels(StepInterface):
    """Draw labels over a scan in three planes, and compress them for the viewer.

    Examples
    --------
    >>> draw = DrawLabels(
    ...     in_file='conformed.nii', labels='dseg.nii', mask='mask.nii', colors={0: (0, 0, 0)}
    ... )  # doctest: +SKIP
    """

    input_spec = DrawLabelsInputSpec
    output_spec = FiguresOutputSpec

    def _work(self, cwd: Path) -> dict[str, Any]:
        from ..reports.figures.draw import draw_labels

        inputs = self.inputs
        drawn = draw_labels(
            Path(inputs.in_file),
            Path(inputs.labels),
            Path(inputs.mask),
            dict(inputs.colors),
            Path(inputs.uncertainty[0]) if isdefined(inputs.uncertainty) else None,
        )
        return {'figures': _keep(drawn, cwd)}


def _keep(drawn: dict[str, bytes], cwd: Path) -> dict[str, str]:
    """Write figures into the folder of a node."""
    files = {}
    for name, content in drawn.items():
        path = cwd / f'{name}{figure_kind(name).extension}'
        path.write_bytes(content)
        files[name] = str(path)
    return files


COST = traits.Tuple(traits.Float, traits.Float, desc='seconds and peak MB of a step')
STEPS = ('conform', 'segment', 'components', 'resample', 'quality', 'figures')


class WriteDerivativesInputSpec(BaseInterfaceInputSpec):
    """Inputs of `WriteDerivatives`."""

    output_dir = traits.Str(mandatory=True, desc='root of the derivative dataset')
    source = traits.Str(mandatory=True, desc='path of the scan in its dataset')
    slug = traits.Str(mandatory=True, desc='name of the model in file names')
    # A string, not a File: a missing scan must fail in its own first step, not here.
    source_file = traits.Str(mandatory=True, desc='file of the scan')
    other_files = traits.List(traits.Str, desc='other input scans of the model')
    recipe = traits.Dict(mandatory=True, desc='settings that change results')
    model = traits.Dict(mandatory=True, desc='metadata of the model for the sidecar')
    rule = traits.Str(mandatory=True, desc='rule for connected components')
    smoothing = traits.Dict(desc='smoothing of the labels')
    mask_rule = traits.Dict(desc='rule for the brain mask')
    border = traits.Float(0.0, usedefault=True, desc='distance by which the mask grew, mm')
    abbreviations = traits.List(
        traits.Str, desc='abbreviations of the labels, for probability maps'
    )
    derived = traits.Dict(traits.Str, traits.Str, desc='tables of derived segmentations by name')
    preproc = File(exists=True, mandatory=True, desc='conformed scan')
    dseg_conform = File(exists=True, mandatory=True, desc='labels in the conformed grid')
    dseg = File(exists=True, mandatory=True, desc="labels in the scan's own grid")
    mask = File(exists=True, desc='brain mask, if this model makes it')
    brain = File(exists=True, desc='skull-stripped scan')
    volumes = File(exists=True, mandatory=True, desc='table of volumes')
    scan_figures = traits.Dict(traits.Str, traits.Str, mandatory=True, desc='output of DrawScan')
    label_figures = traits.Dict(
        traits.Str, traits.Str, mandatory=True, desc='output of DrawLabels'
    )
    probabilities = traits.List(File(exists=True), desc='probability map of each label')
    uncertainty = traits.List(File(exists=True), desc='entropy and, with tta, spread')
    derived_dsegs = traits.List(File(exists=True), desc='labels of each segmentation in `derived`')
    derived_dsegs_conform = traits.List(File(exists=True), desc='the same, conformed grid')
    derived_volumes = traits.List(File(exists=True), desc='their tables of volumes')
    warnings = traits.List(traits.Str, desc='warnings about the scan')
    segment_warnings = traits.List(traits.Str, desc='warnings about model and labels')
    engine = traits.Str(desc='library that ran the network, and its version')
    normalization = traits.Str(desc='normalization of intensities')
    removed_components = traits.Int(desc='number of components that were removed')
    removed_voxels = traits.Int(desc='number of voxels that were removed')
    brain_volume = traits.Float(desc='volume of the brain mask, mm^3')
    intracranial_volume = traits.Float(desc='intracranial volume, mm^3')
    brain_measures = traits.Dict(traits.Str, traits.Float, desc="sums with FreeSurfer's names")
    conform_cost = COST
    segment_cost = COST
    components_cost = COST
    resample_cost = COST
    quality_cost = COST
    figures_cost = COST
    localisation = traits.Dict(desc='output of KeepComponents: where the brain was found')
    confidence = traits.Dict(
        traits.Str, traits.Float, desc='output of Segment: mean probability of each label'
    )
    confidence_limit = traits.Dict(desc='limit of the flag low-confidence, see ConfidenceLimit')
    measures = traits.Dict(traits.Str, traits.Float, desc='image quality measures')
    flags = traits.List(traits.Dict, desc='flags: Name, Value, Reason')


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
            # The background's probability is 1 minus the sum of the others.
            probsegs = {label: Path(path) for label, path in list(pairs)[1:]}
        uncertainty = inputs.uncertainty if isdefined(inputs.uncertainty) else ()
        keys = ('preproc', 'dseg_conform', 'mask', 'brain', 'dseg')
        images = {
            key: Path(getattr(inputs, key)) for key in keys if isdefined(getattr(inputs, key))
        }
        figures = {**inputs.scan_figures, **inputs.label_figures}
        write_scan(
            outputs,
            source=inputs.source,
            images=images,
            volumes=Path(inputs.volumes),
            figures={name: Path(path) for name, path in figures.items()},
            probsegs=probsegs,
            maps=dict(zip(MAPS, map(Path, uncertainty), strict=False)),
            derived=self._derived(),
            record=self._record(),
        )
        self._results['out_file'] = str(outputs.dseg)
        return runtime

    def _derived(self) -> list[DerivedFiles]:
        inputs = self.inputs
        if not isdefined(inputs.derived_dsegs):
            return []
        files = zip(
            inputs.derived_dsegs, inputs.derived_dsegs_conform, inputs.derived_volumes, strict=True
        )
        return [
            DerivedFiles(name, table, *map(Path, paths))
            for (name, table), paths in zip(inputs.derived.items(), files, strict=True)
        ]

    def _record(self) -> dict[str, Any]:
        from ..inference.confidence import mean_confidence
        from ..inference.localise.localisation import Localisation
        from ..models.brain_measures import INTRACRANIAL
        from ..models.confidence_limit import ConfidenceLimit
        from ..quality.confidence import confidence_flags
        from ..quality.flags import flags_of_modality
        from ..quality.located import localisation_flags

        inputs = self.inputs
        costs = {step: getattr(inputs, f'{step}_cost') for step in STEPS}
        known = {step: cost for step, cost in costs.items() if isdefined(cost)}
        volumes = {
            'BrainVolume': inputs.brain_volume,
            'IntracranialVolume': inputs.intracranial_volume,
        }
        measures = dict(inputs.brain_measures) if isdefined(inputs.brain_measures) else {}
        if isdefined(inputs.intracranial_volume):
            measures[INTRACRANIAL] = inputs.intracranial_volume
        flags = list(inputs.flags) if isdefined(inputs.flags) else []
        located = {}
        if isdefined(inputs.localisation):
            located = {'Localisation': dict(inputs.localisation)}
            found = Localisation.from_dict(inputs.localisation)
            flags += [flag.to_dict() for flag in localisation_flags(found)]
        confidence = dict(inputs.confidence) if isdefined(inputs.confidence) else {}
        quality = dict(inputs.measures) if isdefined(inputs.measures) else {}
        mean = mean_confidence(confidence)
        if mean is not None:
            quality['confidence'] = mean
        if isdefined(inputs.confidence_limit):
            limit = ConfidenceLimit(**inputs.confidence_limit)
            flags += [flag.to_dict() for flag in confidence_flags(mean, limit)]
        suffix = ScanName.parse(inputs.source).suffix
        if suffix not in T1_LIKE:
            flags = flags_of_modality(flags, suffix, inputs.model['Name'])
        rules = {'Smoothing': inputs.smoothing, 'Mask': inputs.mask_rule}
        return {
            'Model': {**inputs.model, 'Normalization': inputs.normalization},
            'Engine': inputs.engine,
            'Components': {
                'Rule': inputs.rule,
                'RemovedComponents': inputs.removed_components,
                'RemovedVoxels': inputs.removed_voxels,
                **{key: dict(value) for key, value in rules.items() if isdefined(value) and value},
            },
            'Warnings': [*inputs.warnings, *inputs.segment_warnings],
            **located,
            'Flags': flags,
            'Measures': dict(sorted(quality.items())),
            **({'Confidence': confidence} if confidence else {}),
            **{key: volume for key, volume in volumes.items() if isdefined(volume)},
            'BrainMeasures': measures,
            **({'Border': inputs.border} if inputs.border else {}),
            'Seconds': {step: seconds for step, (seconds, _) in known.items()},
            'PeakMemoryMB': {step: peak for step, (_, peak) in known.items()},
            'Brainchop': fingerprint(
                Path(inputs.source_file),
                inputs.model['SHA256'],
                dict(inputs.recipe),
                [Path(path) for path in inputs.other_files],
            ),
        }

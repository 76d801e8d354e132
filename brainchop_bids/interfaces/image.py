"""Interfaces to the pure functions of `brainchop_bids.image`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    Directory,
    File,
    isdefined,
    traits,
)

from .base import StepInterface, StepOutputSpec


class ConformInputSpec(BaseInterfaceInputSpec):
    """Inputs of `Conform`."""

    in_file = File(exists=True, mandatory=True, desc='scan: NIfTI-1/2 or MGH/MGZ')
    reference = File(exists=True, desc='conformed scan of the same head whose grid is used')
    frame = traits.Int(desc='frame of a 4-D file, counted from 0')
    voxel_size = traits.Float(1.0, usedefault=True, desc='target voxel size, mm')
    smallest = traits.Bool(
        False, usedefault=True, desc="conform to the scan's smallest voxel size"
    )
    force_256 = traits.Bool(
        False, usedefault=True, desc='conform to 256 voxels a side whatever the field of view'
    )
    interpolation = traits.Enum(
        'trilinear', 'nearest', 'cubic', usedefault=True, desc='interpolation of intensities'
    )
    scale = traits.Bool(
        True, usedefault=True, desc='scale intensities to 0-255 instead of rounding them'
    )
    window = traits.Enum(
        'auto', 'freesurfer', usedefault=True, desc='what is scaled, see ConformOptions'
    )
    ct = traits.Bool(
        False, usedefault=True, desc='clip intensities to 0-80, for CT in Hounsfield units'
    )
    localiser = Directory(exists=True, desc='localiser that finds the brain first')
    localiser_sha256 = traits.Str(desc='its checksum: a changed one is run again')
    memory_gb = traits.Float(nohash=True, desc='memory that may be used, GB')
    memory_source = traits.Str(
        'memory_gb', usedefault=True, nohash=True, desc='origin of memory_gb, for messages'
    )
    num_threads = traits.Int(1, usedefault=True, nohash=True, desc='number of threads')


class ConformOutputSpec(StepOutputSpec):
    """Outputs of `Conform`."""

    out_file = File(exists=True, desc='conformed scan, uint8, LIA, uncompressed NIfTI')
    warnings = traits.List(traits.Str, desc='warnings about the scan, one line each')
    localisation = traits.Dict(desc='with a localiser: where the brain was found')


class Conform(StepInterface):
    """Conform a scan as FreeSurfer's ``mri_convert -c`` does.

    Examples
    --------
    >>> conform = Conform(in_file='sub-01_T1w.nii.gz')  # doctest: +SKIP
    >>> conform.run().outputs.out_file  # doctest: +SKIP
    '.../conformed.nii'
    """

    input_spec = ConformInputSpec
    output_spec = ConformOutputSpec

    def _work(self, cwd: Path) -> dict[str, Any]:
        from ..image.conform import ConformOptions
        from ..image.io import save_nifti
        from ..inference.localise.localisation import localise_scan
        from ..inference.stages import conform_scan, read_scan
        from ..system.resources import Granted

        inputs = self.inputs
        options = ConformOptions(
            voxel_size=inputs.voxel_size,
            smallest=inputs.smallest,
            force_256=inputs.force_256,
            interpolation=inputs.interpolation,
            scale=inputs.scale,
            window=inputs.window,
            ct=inputs.ct,
        )
        frame = inputs.frame if isdefined(inputs.frame) else None
        memory = None
        if isdefined(inputs.memory_gb):
            memory = Granted(inputs.memory_gb, inputs.memory_source)
        volume = read_scan(inputs.in_file, frame, options=options, memory=memory)
        reference = inputs.reference if isdefined(inputs.reference) else None
        located = None
        if isdefined(inputs.localiser):
            located = localise_scan(
                volume, Path(inputs.localiser), ct=inputs.ct, threads=inputs.num_threads
            )
        result = conform_scan(
            volume,
            options,
            reference=reference,
            organ=located.region if located else None,
            threads=inputs.num_threads,
        )
        out_file = save_nifti(cwd / 'conformed.nii', result.data, affine=result.affine)
        warnings = dict.fromkeys([*volume.warnings, *result.warnings])
        outputs: dict[str, Any] = {'out_file': str(out_file), 'warnings': list(warnings)}
        if located is not None:
            outputs['localisation'] = replace(located, moved_mm=result.moved_mm).to_dict()
        return outputs


class KeepComponentsInputSpec(BaseInterfaceInputSpec):
    """Inputs of `KeepComponents`."""

    in_file = File(exists=True, mandatory=True, desc='labels')
    rule = traits.Str('largest', usedefault=True, desc='components that are kept, see Cleanup')
    mask_rule = traits.Dict(desc='rule for the brain mask, as MaskRule.to_dict returns it')
    intracranial = traits.Bool(
        False, usedefault=True, desc='measure the intracranial volume (brain and fluid around it)'
    )
    localisation = traits.Dict(desc='output of Conform: labels far from the brain are removed')
    out_file = File('kept.nii', usedefault=True, desc='file name of the labels')
    out_mask = File('mask.nii', usedefault=True, desc='file name of the brain mask')


class KeepComponentsOutputSpec(StepOutputSpec):
    """Outputs of `KeepComponents`."""

    out_file = File(exists=True, desc='labels that were kept')
    out_mask = File(exists=True, desc='brain mask, with holes filled')
    removed_components = traits.Int(desc='number of components that were removed')
    removed_voxels = traits.Int(desc='number of voxels that were removed')
    intracranial_volume = traits.Float(desc='intracranial volume, mm^3')
    localisation = traits.Dict(desc='that of the input, with the number of removed voxels')


class KeepComponents(StepInterface):
    """Remove connected components of labels by a rule, and make a brain mask.

    Examples
    --------
    >>> keep = KeepComponents(in_file='dseg.nii', rule='largest')  # doctest: +SKIP
    >>> keep.run().outputs.removed_voxels  # doctest: +SKIP
    1234
    """

    input_spec = KeepComponentsInputSpec
    output_spec = KeepComponentsOutputSpec

    def _work(self, cwd: Path) -> dict[str, Any]:
        from ..image.cleanup import MaskRule
        from ..image.io import load_labels, save_nifti
        from ..inference.localise.localisation import Localisation
        from ..inference.stages import clean_up

        inputs = self.inputs
        labels, geometry = load_labels(inputs.in_file)
        located = None
        if isdefined(inputs.localisation):
            located = Localisation.from_dict(inputs.localisation)
            labels, located = located.restrict(labels, geometry)
        mask_rule = MaskRule.from_dict(inputs.mask_rule if isdefined(inputs.mask_rule) else {})
        cleaned = clean_up(
            labels, geometry.zooms, inputs.rule, mask_rule, intracranial=inputs.intracranial
        )
        outputs: dict[str, Any] = {
            'removed_components': int(cleaned.removed.components),
            'removed_voxels': int(cleaned.removed.voxels),
        }
        if located is not None:
            outputs['localisation'] = located.to_dict()
        if cleaned.intracranial_mm3 is not None:
            outputs['intracranial_volume'] = cleaned.intracranial_mm3
        like = Path(inputs.in_file)
        for name, image in (('out_file', cleaned.labels), ('out_mask', cleaned.mask)):
            if image is not None:
                path = cwd / getattr(inputs, name)
                outputs[name] = str(save_nifti(path, image, like=like, labels=True))
        return outputs


class ResampleLabelsInputSpec(BaseInterfaceInputSpec):
    """Inputs of `ResampleLabels`."""

    in_file = File(exists=True, mandatory=True, desc='labels')
    reference = File(exists=True, mandatory=True, desc='image whose grid is used')
    method = traits.Enum('linear', 'nearest', usedefault=True, desc='interpolation')
    remove_empty = traits.Bool(
        False, usedefault=True, desc='remove labels from voxels where the reference has no signal'
    )
    frame = traits.Int(desc='frame of a 4-D reference, counted from 0')
    out_file = File('resampled.nii', usedefault=True, desc='file name of the result')


class ResampleLabelsOutputSpec(StepOutputSpec):
    """Outputs of `ResampleLabels`."""

    out_file = File(exists=True, desc="labels in the reference's grid, with its affine")


class ResampleLabels(StepInterface):
    """Resample labels to the grid of another file; headers are read as FreeSurfer reads them.

    Examples
    --------
    >>> to_scan = ResampleLabels(in_file='dseg.nii', reference='T1w.nii.gz')  # doctest: +SKIP
    >>> to_scan.run().outputs.out_file  # doctest: +SKIP
    '.../resampled.nii'
    """

    input_spec = ResampleLabelsInputSpec
    output_spec = ResampleLabelsOutputSpec

    def _work(self, cwd: Path) -> dict[str, Any]:
        from ..image.background import without_empty
        from ..image.io import load_labels, read_geometry, read_volume, save_nifti
        from ..image.resample import labels_to_grid

        inputs = self.inputs
        labels, source = load_labels(inputs.in_file)
        target, _ = read_geometry(inputs.reference)
        resampled = labels_to_grid(labels, source, target, method=inputs.method)
        if inputs.remove_empty:
            frame = inputs.frame if isdefined(inputs.frame) else None
            resampled = without_empty(resampled, read_volume(inputs.reference, frame=frame).data)
        reference, out_file = Path(inputs.reference), cwd / inputs.out_file
        return {'out_file': str(save_nifti(out_file, resampled, like=reference, labels=True))}


class RecodeLabelsInputSpec(BaseInterfaceInputSpec):
    """Inputs of `RecodeLabels`."""

    in_file = File(exists=True, mandatory=True, desc='labels')
    values = traits.List(traits.Int, mandatory=True, desc='new value of labels 0, 1, 2, ...')
    out_file = File('recoded.nii', usedefault=True, desc='file name of the result')


class RecodeLabelsOutputSpec(StepOutputSpec):
    """Outputs of `RecodeLabels`."""

    out_file = File(exists=True, desc='labels with other values')


class RecodeLabels(StepInterface):
    """Change the values of labels, e.g. to FreeSurfer's codes.

    Examples
    --------
    >>> recode = RecodeLabels(in_file='dseg.nii', values=[0, 2, 41])  # doctest: +SKIP
    """

    input_spec = RecodeLabelsInputSpec
    output_spec = RecodeLabelsOutputSpec

    def _work(self, cwd: Path) -> dict[str, Any]:
        from ..image.io import load_labels, save_nifti
        from ..image.lookup import recode

        labels, _ = load_labels(self.inputs.in_file)
        recoded = recode(labels, self.inputs.values)
        like, out_file = Path(self.inputs.in_file), cwd / self.inputs.out_file
        return {'out_file': str(save_nifti(out_file, recoded, like=like, labels=True))}


class DeriveLabelsInputSpec(BaseInterfaceInputSpec):
    """Inputs of `DeriveLabels`."""

    dseg = File(exists=True, mandatory=True, desc="labels in the scan's own grid")
    dseg_conform = File(exists=True, mandatory=True, desc='labels in the conformed grid')
    names = traits.List(traits.Str, mandatory=True, desc='names of the derived segmentations')
    values = traits.List(
        traits.List(traits.Int),
        mandatory=True,
        desc='new values of labels 0, 1, 2, ... for each derived segmentation',
    )
    labels = traits.List(
        traits.Dict(traits.Int, traits.Str), mandatory=True, desc='names of the labels of each'
    )


class DeriveLabelsOutputSpec(StepOutputSpec):
    """Outputs of `DeriveLabels`, in the order of `names`."""

    dsegs = traits.List(File(exists=True), desc="labels in the scan's own grid")
    dsegs_conform = traits.List(File(exists=True), desc='labels in the conformed grid')
    volumes = traits.List(File(exists=True), desc='tables of index, name, voxels, volume (mm^3)')


class DeriveLabels(StepInterface):
    """Derive segmentations from labels by look-up tables, such as tissues from structures.

    Examples
    --------
    >>> derive = DeriveLabels(
    ...     dseg='dseg.nii', dseg_conform='dseg_conform.nii', names=['tissue'],
    ...     values=[[0, 2, 1]], labels=[{0: 'Background', 1: 'Gray Matter', 2: 'White Matter'}],
    ... )  # doctest: +SKIP
    """

    input_spec = DeriveLabelsInputSpec
    output_spec = DeriveLabelsOutputSpec

    def _work(self, cwd: Path) -> dict[str, Any]:
        from ..image.io import load_labels, save_nifti
        from ..image.lookup import recode
        from ..inference.stages import tabulate_volumes

        inputs = self.inputs
        grids = {name: Path(getattr(inputs, name)) for name in ('dseg', 'dseg_conform')}
        labels = {name: load_labels(path) for name, path in grids.items()}
        outputs: dict[str, list[str]] = {'dsegs': [], 'dsegs_conform': [], 'volumes': []}
        for name, values, names in zip(inputs.names, inputs.values, inputs.labels, strict=True):
            derived = {grid: recode(image, values) for grid, (image, _) in labels.items()}
            for output, grid in (('dsegs', 'dseg'), ('dsegs_conform', 'dseg_conform')):
                path = cwd / f'{grid}_{name}.nii'
                save_nifti(path, derived[grid], like=grids[grid], labels=True)
                outputs[output].append(str(path))
            table = cwd / f'volumes_{name}.tsv'
            _, geometry = labels['dseg']
            table.write_text(
                tabulate_volumes(derived['dseg'], geometry, names)[0], 'utf-8', newline='\n'
            )
            outputs['volumes'].append(str(table))
        return outputs


class LabelVolumesInputSpec(BaseInterfaceInputSpec):
    """Inputs of `LabelVolumes`."""

    in_file = File(exists=True, mandatory=True, desc='labels')
    mask = File(exists=True, desc='brain mask')
    labels = traits.Dict(traits.Int, traits.Str, mandatory=True, desc='names of the labels')
    codes = traits.Dict(
        traits.Int, traits.Int, desc="FreeSurfer's codes of the labels that have one"
    )
    fluid = traits.Bool(
        False, usedefault=True, desc='True if the label CSF is the fluid around the brain'
    )
    confidence = traits.Dict(
        traits.Str, traits.Float, desc='output of Segment: a further column of the table'
    )


class LabelVolumesOutputSpec(StepOutputSpec):
    """Outputs of `LabelVolumes`."""

    out_file = File(exists=True, desc='table of index, name, voxels and volume (mm^3), TSV')
    brain_volume = traits.Float(desc='volume of the brain mask, mm^3')
    brain_measures = traits.Dict(traits.Str, traits.Float, desc="sums with FreeSurfer's names")


class LabelVolumes(StepInterface):
    """Count the voxels and measure the volume of each label.

    Examples
    --------
    >>> volumes = LabelVolumes(in_file='dseg.nii', labels={0: 'background'})  # doctest: +SKIP
    """

    input_spec = LabelVolumesInputSpec
    output_spec = LabelVolumesOutputSpec

    def _work(self, cwd: Path) -> dict[str, Any]:
        from ..image.io import load_labels
        from ..image.volumes import label_volumes
        from ..inference.stages import tabulate_volumes
        from ..models.brain_measures import brain_measures

        labels, geometry = load_labels(self.inputs.in_file)
        out_file = cwd / 'volumes.tsv'
        names, codes = self.inputs.labels, self.inputs.codes
        confidence = self.inputs.confidence if isdefined(self.inputs.confidence) else None
        table, volumes = tabulate_volumes(labels, geometry, names, confidence)
        out_file.write_text(table, encoding='utf-8', newline='\n')
        measures = brain_measures(
            {label: volume for label, (_, volume) in volumes.items()},
            names,
            codes if isdefined(codes) else {},
            fluid=self.inputs.fluid,
        )
        results: dict[str, Any] = {'out_file': str(out_file), 'brain_measures': measures}
        if isdefined(self.inputs.mask):
            mask, geometry = load_labels(self.inputs.mask)
            voxels = label_volumes(mask, geometry.voxel_volume)
            results['brain_volume'] = round(float(voxels.get(1, (0, 0.0))[1]), 3)
        return results

"""Interface to `brainchop_bids.models`: facts about a model that other nodes need."""

from pathlib import Path
from typing import Any

from nipype.interfaces.base import BaseInterfaceInputSpec, Directory, isdefined, traits

from .base import StepInterface, StepOutputSpec


class FindModelInputSpec(BaseInterfaceInputSpec):
    """Inputs of `FindModel`."""

    model = traits.Str(mandatory=True, desc='name of a model, or absolute path of its folder')
    models_dir = Directory(exists=True, desc='folder that contains model folders')


class FindModelOutputSpec(StepOutputSpec):
    """Outputs of `FindModel`, named like the inputs that they are connected to."""

    name = traits.Str(desc="model's name in file names (seg-<name>): letters and digits")
    model = Directory(exists=True, desc='model folder, for Segment')
    model_sha256 = traits.Str(desc='checksum of the model, for Segment')
    rule = traits.Str(desc="model's rule for components, for KeepComponents")
    mask_rule = traits.Dict(desc="model's rule for the brain mask, for KeepComponents")
    labels = traits.Dict(traits.Int, traits.Str, desc='names of the labels, for LabelVolumes')
    inputs = traits.List(traits.Str, desc='BIDS suffixes of the scans that the model takes')
    localiser = traits.Str(desc='folder of the localiser that the model names, for Conform')
    covers_brain = traits.Bool(desc='True if a brain mask can be made from the labels')


class FindModel(StepInterface):
    """Find a model by its name or folder and output the facts that other nodes need.

    It is for graphs that iterate over models; `init_single_scan_wf` does not need it. It runs
    every time, so that a changed model is noticed.

    Raises
    ------
    ModelError
        If there is no such model, or it is incomplete.

    Examples
    --------
    >>> found = FindModel(model='tissue').run().outputs
    >>> found.labels
    {0: 'Background', 1: 'Gray Matter', 2: 'White Matter', 3: 'Cerebrospinal Fluid'}
    >>> found.rule, found.inputs
    ('largest+within:5', ['T1w'])
    """

    input_spec = FindModelInputSpec
    output_spec = FindModelOutputSpec
    _always_run = True

    def _work(self, cwd: Path) -> dict[str, Any]:
        from ..inference.localise.localisation import find_localiser
        from ..models.spec import load_segmenter
        from ..models.zoo import find_model

        given = self.inputs.models_dir
        spec = load_segmenter(find_model(self.inputs.model, given if isdefined(given) else None))
        localiser = find_localiser('auto', [spec])
        return {
            **({} if localiser is None else {'localiser': str(localiser.resolve())}),
            'name': spec.slug,
            'model': str(spec.folder.resolve()),
            'model_sha256': spec.sha256,
            'rule': spec.cleanup,
            'mask_rule': spec.mask_rule.to_dict(),
            'labels': {label.index: label.name for label in spec.labels},
            'inputs': list(spec.inputs),
            'covers_brain': spec.covers_brain,
        }

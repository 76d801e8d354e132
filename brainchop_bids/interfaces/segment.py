"""Interface to ``brainchop-segment``, a process of its own.

TensorFlow never loads in the parent, a kill is an ordinary failure of one scan, and the memory
of a GPU comes back when the process exits.
"""

import json
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

from nipype.interfaces.base import (
    CommandLine,
    CommandLineInputSpec,
    Directory,
    File,
    InputMultiPath,
    isdefined,
    traits,
)

from ..inference.options import DEVICES, ENGINES, PRECISIONS
from ..inference.pool import ask
from ..system.errors import BrainchopError
from .base import StepOutputSpec, measured


class SegmentInputSpec(CommandLineInputSpec):
    """Inputs of `Segment`."""

    in_file = File(exists=True, mandatory=True, argstr='%s', position=-2, desc='conformed scan')
    out_file = File('dseg.nii', usedefault=True, argstr='%s', position=-1, desc='labels')
    channels = InputMultiPath(
        File(exists=True), argstr='--channel %s...', desc='other scans of the head, conformed'
    )
    model = Directory(exists=True, mandatory=True, argstr='--model %s', desc='model folder')
    model_sha256 = traits.Str(desc='checksum of the model: a changed model is run again')
    computed_by = traits.Enum(*ENGINES, argstr='--engine %s', usedefault=True, desc='engine')
    device = traits.Enum(*DEVICES, argstr='--device %s', usedefault=True, desc='where')
    precision = traits.Enum(*PRECISIONS, argstr='--precision %s', usedefault=True, desc='products')
    crop = traits.Str(argstr='--crop %s', desc='auto, none or mm around the head')
    tta = traits.Bool(argstr='--tta', desc='average with the flipped scan')
    subvolumes = traits.Str(argstr='--subvolumes %s', desc='cubes instead of the whole')
    memory_gb = traits.Float(nohash=True, argstr='--mem %.3fG', desc='what may be used, GB')
    normalization = traits.Str(argstr='--normalization %s', desc="instead of the model's own")
    probabilities = traits.Bool(
        argstr='--probseg probabilities.nii', desc='write class probabilities, 4-D'
    )
    processes = traits.Str(nohash=True, desc='folder of processes that wait for scans')
    num_threads = traits.Int(
        1, usedefault=True, nohash=True, argstr='--omp-nthreads %d', desc='threads'
    )


class SegmentOutputSpec(StepOutputSpec):
    """Outputs of `Segment`."""

    out_file = File(exists=True, desc='labels in the conformed grid')
    out_probabilities = File(exists=True, desc='class probabilities, 4-D')
    engine = traits.Str(desc='what ran the network')
    normalization = traits.Str(desc='how intensities were normalised')


class Segment(CommandLine):
    """Label a conformed scan with a model, in a process of its own.

    All components stay, see `KeepComponents`. `FindModel` tells the folder and the checksum of a
    model that is known by its name.

    Examples
    --------
    >>> segment = Segment(in_file='conformed.nii', model='/models/mine')  # doctest: +SKIP
    >>> segment.run().outputs.out_file  # doctest: +SKIP
    '.../dseg.nii'
    """

    # Not `brainchop-segment`: the folder of this very Python may not be on the PATH.
    _cmd = (
        f'{shlex.quote(sys.executable)} -m brainchop_bids.cli.segment '
        '--space conform --components none --stats stats.json'
    )
    # The words of the command itself.
    _words = 3
    input_spec = SegmentInputSpec
    output_spec = SegmentOutputSpec
    _terminal_output = 'file_split'

    @property
    def arguments(self) -> list[str]:
        """The command line's arguments."""
        return shlex.split(self.cmdline)[self._words :]

    def _run_interface(self, runtime: Any, correct_return_codes: tuple[int, ...] = (0,)) -> Any:
        if isdefined(self.inputs.processes):
            answer = ask(Path(self.inputs.processes), self.arguments)
            if answer is not None:
                runtime.returncode, runtime.stderr = answer
                if runtime.returncode:
                    raise BrainchopError(_what_failed(*answer))
                return runtime
        every_code = tuple(range(-128, 256))
        runtime = super()._run_interface(runtime, correct_return_codes=every_code)
        if runtime.returncode not in correct_return_codes:
            raise BrainchopError(_what_failed(runtime.returncode, runtime.stderr or ''))
        return runtime

    def _list_outputs(self) -> dict[str, Any]:
        outputs = self.output_spec().get()
        folder = Path.cwd()
        outputs['out_file'] = str((folder / self.inputs.out_file).absolute())
        if isdefined(self.inputs.probabilities) and self.inputs.probabilities:
            outputs['out_probabilities'] = str(folder / 'probabilities.nii')
        stats = json.loads((folder / 'stats.json').read_text(encoding='utf-8'))
        outputs['engine'] = stats['engine']
        outputs['normalization'] = stats['normalization']
        return {**outputs, **measured(stats['seconds']['total'], stats['peak_mb'])}


def _what_failed(returncode: int, stderr: str) -> str:
    """Turn the end of the process into one line."""
    number = -returncode if returncode < 0 else returncode - 128
    if number == signal.SIGKILL:
        return (
            'the segmentation process was killed: most likely the memory ran out; '
            'grant more with --mem, run fewer scans at once, or use a smaller model'
        )
    lines = [line for line in stderr.splitlines() if line.strip()]
    told = [line.partition(': error: ')[2] for line in lines if ': error: ' in line]
    if told:
        return told[-1]
    last = lines[-1] if lines else 'it said nothing'
    return f'the segmentation process failed with exit code {returncode}: {last}'

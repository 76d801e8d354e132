"""Base of the interfaces: run time and memory of a step."""

from pathlib import Path
from time import perf_counter
from typing import Any

from nipype.interfaces.base import SimpleInterface, TraitedSpec, traits

from ..system.resources import forget_peak, peak_mb


class StepOutputSpec(TraitedSpec):
    """Outputs that every step has."""

    seconds = traits.Float(desc='wall time of the step, s')
    peak_mb = traits.Float(desc='peak resident memory of its process, MB')
    cost = traits.Tuple(traits.Float, traits.Float, desc='seconds and peak_mb')


class StepInterface(SimpleInterface):
    """An interface whose work is one method that returns its outputs.

    Subclasses define ``_work``. Its run time and the peak memory of the process become the
    outputs ``seconds`` and ``peak_mb``.
    """

    def _work(self, cwd: Path) -> dict[str, Any]:
        """Do the work; ``cwd`` is the folder for output files."""
        raise NotImplementedError

    def _run_interface(self, runtime: Any) -> Any:
        forget_peak()
        start = perf_counter()
        outputs = self._work(Path(runtime.cwd))
        # A step in another process brings its own.
        measures = measured(round(perf_counter() - start, 3), round(peak_mb(), 1))
        self._results.update({**measures, **outputs})
        return runtime


def measured(seconds: float, peak: float) -> dict[str, Any]:
    """Return the outputs of `StepOutputSpec`."""
    return {'seconds': seconds, 'peak_mb': peak, 'cost': (seconds, peak)}

"""Base class of the interfaces, which measures run time and memory."""

from pathlib import Path
from time import perf_counter
from typing import Any

from nipype.interfaces.base import SimpleInterface, TraitedSpec, traits

from ..system.resources import forget_peak, peak_mb


class StepOutputSpec(TraitedSpec):
    """Outputs of every step."""

    seconds = traits.Float(desc='wall time of the step, s')
    peak_mb = traits.Float(desc='peak resident memory of its process, MB')
    cost = traits.Tuple(traits.Float, traits.Float, desc='seconds and peak_mb')


class StepInterface(SimpleInterface):
    """Base class of interfaces that do their work in one method, which returns the outputs.

    Subclasses define ``_work``. Its run time and the peak memory of the process are added as the
    outputs ``seconds`` and ``peak_mb``.
    """

    def _work(self, cwd: Path) -> dict[str, Any]:
        """Do the work; ``cwd`` is the folder for output files."""
        raise NotImplementedError

    def _run_interface(self, runtime: Any) -> Any:
        forget_peak()
        start = perf_counter()
        outputs = self._work(Path(runtime.cwd))
        # A step that ran in another process returns its own measures.
        measures = measured(round(perf_counter() - start, 3), round(peak_mb(), 1))
        self._results.update({**measures, **outputs})
        return runtime


def measured(seconds: float, peak: float) -> dict[str, Any]:
    """Return the outputs in `StepOutputSpec`."""
    return {'seconds': seconds, 'peak_mb': peak, 'cost': (seconds, peak)}

"""What the interfaces share: how long a step took."""

from pathlib import Path
from time import perf_counter
from typing import Any

from nipype.interfaces.base import SimpleInterface, TraitedSpec, traits


class StepOutputSpec(TraitedSpec):
    """Outputs that every step has."""

    seconds = traits.Float(desc='wall time of the step, s')


class StepInterface(SimpleInterface):
    """An interface whose work is one method that returns its outputs.

    Subclasses define ``_work``; the time it takes becomes the output ``seconds``.
    """

    def _work(self, cwd: Path) -> dict[str, Any]:
        """Do the work; ``cwd`` is the folder for output files."""
        raise NotImplementedError

    def _run_interface(self, runtime: Any) -> Any:
        start = perf_counter()
        self._results.update(self._work(Path(runtime.cwd)))
        self._results['seconds'] = round(perf_counter() - start, 3)
        return runtime

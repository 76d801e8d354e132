"""Progress of a run on the terminal: scans, their steps, and their outcome."""

import sys
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..reports.crashes import last_words
from ..system.errors import BrainchopError
from ..system.signals import raise_if_stopped
from ..system.text import printable

# Most scans that are named in one line.
_NAMED = 5

STEPS = {
    'conform': 'conforming',
    'segment': 'segmenting',
    'keep_components': 'cleaning up',
    'resample_dseg': 'back to its grid',
    'resample_mask': 'back to its grid',
    'resample_probseg': 'back to its grid',
    'volumes': 'measuring',
    'quality': 'measuring',
    'draw_scan': 'drawing',
    'draw_labels': 'drawing',
    'write': 'writing',
}


class Display:
    """Show the progress of scans: a live bar on a terminal, plain lines elsewhere.

    Parameters
    ----------
    total : int
        Number of scans.
    verbose : int
        From 1 on, plain lines also report each step.
    """

    def __init__(self, total: int, verbose: int = 0) -> None:
        self.total = total
        self.verbose = verbose
        self.done = 0
        self._begun: dict[str, float] = {}
        self._tasks: dict[str, object] = {}
        console = Console(highlight=False, soft_wrap=True)
        self._live: Progress | None = None
        if sys.stdout.isatty():
            columns = (BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn())
            self._live = Progress(
                TextColumn('{task.description}'), *columns, console=console, transient=True
            )
            self._bar = self._live.add_task('scans', total=total)

    def __enter__(self) -> 'Display':
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def step(self, scan: str, node: str) -> None:
        """Show that a step of a scan has begun."""
        first = scan not in self._begun
        self._begun.setdefault(scan, time.monotonic())
        text = f'{scan}: {STEPS.get(node, node)}'
        if self._live:
            if first:
                self._tasks[scan] = self._live.add_task(text, total=len(STEPS) - 1)
            self._live.update(self._tasks[scan], description=text, advance=int(not first))  # type: ignore[arg-type]
        elif first or self.verbose:
            self.say(text)

    def finished(self, scan: str) -> None:
        """Show that a scan is done."""
        self._close(scan, 'done')

    def failed(self, scan: str, why: str) -> None:
        """Show that a scan has failed."""
        self._close(scan, f'FAILED: {why}')

    def say(self, line: str) -> None:
        """Print a `printable` line above the live display."""
        line = printable(line)
        if self._live:
            self._live.console.print(line, markup=False)
        else:
            print(line, flush=True)

    def _close(self, scan: str, how: str) -> None:
        self.done += 1
        seconds = time.monotonic() - self._begun.get(scan, time.monotonic())
        self.say(f'[{self.done}/{self.total}] {scan}: {how} ({seconds:.1f} s)')
        if self._live:
            if scan in self._tasks:
                self._live.remove_task(self._tasks.pop(scan))  # type: ignore[arg-type]
            self._live.advance(self._bar)


class Watcher:
    """Translate Nipype's reports on nodes into the progress of scans.

    Parameters
    ----------
    display : Display
        Display of the progress.
    scans : dict of str to (str, int)
        Name of each scan's workflow to the scan's label and its number of models.
    on_done : callable
        Called with the name of the workflow when all results of a scan are written.
    explain : callable
        Takes the reason why a scan failed; returns it with what else is known.
    """

    def __init__(
        self,
        display: Display,
        scans: dict[str, tuple[str, int]],
        on_done: Callable[[str], None],
        explain: Callable[[str], str] = str,
    ) -> None:
        self.display = display
        self.scans = {workflow: label for workflow, (label, _) in scans.items()}
        self.models = {workflow: count for workflow, (_, count) in scans.items()}
        self.written = dict.fromkeys(scans, 0)
        self.on_done = on_done
        self.explain = explain
        # Nipype's own plugins report that a node failed, but not why.
        self.sees_tracebacks = True
        self.failures: dict[str, str] = {}
        self.finished: set[str] = set()

    def status(self, node: object, status: str) -> None:
        """Process the status of a node: ``'start'``, ``'end'`` or ``'exception'``.

        Raises
        ------
        Interrupted
            If SIGTERM or SIGINT was received, even if its exception was lost.
        """
        if status != 'end':
            # After a signal nothing is started, and the end of a process is not a failure.
            raise_if_stopped()
        workflow, step = self._where(node)
        if workflow not in self.scans:
            return
        if status == 'end' and step == 'write':
            self.written[workflow] += 1
        if workflow in self.failures:
            return
        if status == 'start':
            self.display.step(self.scans[workflow], step)
        elif status == 'end' and self.written[workflow] == self.models[workflow]:
            self._finish(workflow)
        elif status == 'exception' and not self.sees_tracebacks:
            self.fail(workflow, f'the step {step} failed: see its crash file')

    def failure(self, node: object, traceback: list[str]) -> None:
        """Process the traceback of a failed node."""
        workflow, step = self._where(node)
        if workflow not in self.scans or workflow in self.failures:
            return
        self.fail(workflow, last_words(''.join(traceback)) or f'the step {step} failed')

    def fail(self, workflow: str, why: str) -> None:
        """Process the failure of a scan, for the given reason."""
        why = self.explain(why)
        self.failures[workflow] = why
        self.display.failed(self.scans[workflow], why)

    def state(self) -> str:
        """Summarize in one line which scans are done and which are not.

        Returns
        -------
        str
        """
        left = [
            label
            for workflow, label in self.scans.items()
            if workflow not in self.finished and workflow not in self.failures
        ]
        named = ', '.join(left[:_NAMED]) + f' and {len(left) - _NAMED} more' * (len(left) > _NAMED)
        failed = f', {len(self.failures)} failed' if self.failures else ''
        return (
            f'{len(self.finished)} of {len(self.scans)} scans done{failed}, '
            f'{len(left)} not done{f" ({named})" if left else ""}; run again to go on'
        )

    def _finish(self, workflow: str) -> None:
        try:
            self.on_done(workflow)
        except BrainchopError as error:
            self.fail(workflow, str(error))
            return
        self.finished.add(workflow)
        self.display.finished(self.scans[workflow])

    @staticmethod
    def _where(node: object) -> tuple[str, str]:
        parts = str(getattr(node, 'fullname', node)).split('.')
        return (parts[1] if len(parts) > 1 else '', parts[-1])

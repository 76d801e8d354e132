"""Times of the stages of a scan."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stopwatch:
    """Wall time of named stages.

    Parameters
    ----------
    log : callable, optional
        Called with one line when a stage begins and one when it ends.
    """

    def __init__(self, log: Callable[[str], None] | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self.log = log or (lambda line: None)
        self._start = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the time that the body of the ``with`` statement takes."""
        start = time.perf_counter()
        self.log(f'{name} ...')
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)
        self.log(f'{name} {self.seconds[name]:.1f} s')

    def total(self) -> dict[str, float]:
        """Return the seconds of each stage and, as ``total``, those since the beginning."""
        return {**self.seconds, 'total': round(time.perf_counter() - self._start, 3)}

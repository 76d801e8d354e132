"""Seconds and peak memory of the parts of a process; standard library only, for any Python."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Stages:
    """What each part of this process took.

    Examples
    --------
    >>> stages = Stages()
    >>> with stages('nothing'):
    ...     pass
    >>> list(stages.seconds)
    ['nothing']
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peak_mb: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time a part and take its peak resident memory."""
        reset_peak()
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start
        self.peak_mb[name] = peak_mb()

    def write(self, path: str | Path, **more: object) -> None:
        """Write everything as JSON."""
        facts = {'seconds': self.seconds, 'peak_mb': self.peak_mb, **more}
        Path(path).write_text(json.dumps(facts))


def reset_peak() -> None:
    """Make the kernel forget the highest resident memory so far."""
    try:
        Path('/proc/self/clear_refs').write_text('5')
    except OSError as error:
        raise SystemExit(f'peaks of stages cannot be measured on this system: {error}') from None


def peak_mb() -> float:
    """Return the highest resident memory of this process since `reset_peak`, in 10^6 bytes."""
    status = Path('/proc/self/status').read_text()
    line = next(line for line in status.splitlines() if line.startswith('VmHWM'))
    return int(line.split()[1]) * 1024 / 1e6

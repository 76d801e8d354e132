"""Crash files of a run, read for its pages."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..bids.derivatives import ScanOutputs
from ..bids.names import ScanName, scan_node_name
from ..system.errors import BrainchopError
from ..system.processes import why_refused

_NODE = re.compile(r'^Node: (?P<node>\S+)$', re.MULTILINE)
_SCAN = re.compile(r'sub-[^\s/]*?_[A-Za-z0-9]+(?=\.nii)')
# Characters of a crash file on a page: the end has the error, and pages must stay small.
_MOST = 20_000


@dataclass(frozen=True)
class Failure:
    """A scan that failed.

    Parameters
    ----------
    title : str
        The scan's file name without its extension.
    step : str
        Name of the node.
    line : str
        The error in one line.
    text : str
        The crash file, or its end.
    file : str
        Its name.
    slug : str
        Name in file names of the model that failed; empty where all of the scan failed.
    """

    title: str
    step: str
    line: str
    text: str
    file: str
    slug: str = ''


@dataclass(frozen=True)
class Crash:
    """A crash file.

    Parameters
    ----------
    path : Path
        The file.
    node : str
        Full name of the node.
    text : str
        Its content.
    time : float
        When it was written, s.
    """

    path: Path
    node: str
    text: str
    time: float

    @property
    def workflow(self) -> str:
        """Name of the scan's workflow."""
        return self.node.split('.')[1] if '.' in self.node else ''

    @property
    def slug(self) -> str:
        """Name of the model in file names; empty where the node serves all models."""
        parts = self.node.split('.')
        return parts[2].removesuffix('_wf') if len(parts) > 3 else ''


def read_crashes(logs: Path, since: float = 0.0) -> Iterator[Crash]:
    """Read the crash files of Nipype.

    Parameters
    ----------
    logs : Path
        Their folder; it may be missing.
    since : float
        Time before which files are of another run, s.

    Yields
    ------
    Crash
        In the order in which they were written; those that cannot be read are left out.
    """
    dated = []
    for path in logs.glob('crash-*.txt'):
        with suppress(OSError):
            time = path.stat().st_mtime
            if time >= since:
                dated.append((time, path))
    for time, path in sorted(dated):
        with suppress(OSError):
            text = path.read_text(encoding='utf-8', errors='replace')
            match = _NODE.search(text)
            yield Crash(path, match['node'] if match else '', text, time)


def last_words(traceback: str) -> str:
    """Return the error message of a traceback.

    Parameters
    ----------
    traceback : str
        As Python or Nipype prints it.

    Returns
    -------
    str
        The message of a `BrainchopError` if there is one, else of the last error; may be empty.

    Examples
    --------
    >>> last_words('Traceback...\\n\\tbrainchop_bids.system.errors.InputError: x.nii: empty\\n')
    'x.nii: empty'
    """
    ours = re.findall(r'brainchop_bids\.system\.errors\.\w+: (.+)', traceback)
    if ours:
        return ours[-1].strip()
    errors = re.findall(r'^\s*((?:[\w.]+\.)?\w*(?:Error|Exception)\b.*)$', traceback, re.MULTILINE)
    line = errors[-1].strip() if errors else ''
    if 'No space left' in line:
        line += '; free some space and run again (what is done stays done)'
    return why_refused(line) or line


def find_failures(
    output_dir: Path, participant: str | None = None, session: str | None = None
) -> tuple[Failure, ...]:
    """Find the scans that failed and have not been processed since.

    Parameters
    ----------
    output_dir : Path
        Root of the derivatives.
    participant : str, optional
        Label, with or without ``sub-``: only this participant's.
    session : str, optional
        Label, with or without ``ses-``: only this session's.

    Returns
    -------
    tuple of Failure
        The last one of each scan, by name.
    """
    last: dict[str, Failure] = {}
    for crash in read_crashes(output_dir / 'logs'):
        name = _scan_of(crash)
        if name is None or (participant and name.subject != participant.removeprefix('sub-')):
            continue
        if session and name.session != session.removeprefix('ses-'):
            continue
        if _done_since(output_dir, name, crash):
            continue
        line = last_words(crash.text) or 'the step failed; see the crash file'
        step = crash.node.rpartition('.')[2]
        text = crash.text[-_MOST:]
        last[name.stem] = Failure(name.stem, step, line, text, crash.path.name, crash.slug)
    return tuple(last[stem] for stem in sorted(last))


def _scan_of(crash: Crash) -> ScanName | None:
    """Find the scan whose workflow the node belongs to among the files that the text names."""
    for stem in dict.fromkeys(_SCAN.findall(crash.text)):
        if scan_node_name(stem) == crash.workflow:
            with suppress(BrainchopError):
                return ScanName.parse(f'{stem}.nii.gz')
    return None


def _done_since(output_dir: Path, name: ScanName, crash: Crash) -> bool:
    """Tell whether the labels of the scan are newer than the crash, for the model that failed."""
    pattern = ScanOutputs(output_dir, name, crash.slug or '*').dseg
    with suppress(OSError):
        return any(
            os.path.getmtime(path) > crash.time for path in pattern.parent.glob(pattern.name)
        )
    return False

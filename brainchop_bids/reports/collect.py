"""Records of a participant or a group, collected from the derivatives alone.

The scans are not needed, so that pages can be rebuilt anywhere.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ..bids.derivatives import ScanOutputs
from ..bids.names import MODALITIES, ScanName
from ..bids.query import Scan, why_absent
from ..quality.normative import LabelRow
from ..system.errors import BrainchopError
from .crashes import Failure
from .records import FAILED, MISSING, ScanRecord, read_labels, read_record
from .text import log_line

_NOT_PROCESSED = 'not processed yet: run the participant level'
_EARLIER = ' (the results are those of an earlier run)'


@dataclass(frozen=True)
class ScanGroup:
    """All scans of one model.

    Parameters
    ----------
    root : Path
        The derivative dataset.
    slug : str
        The model's name in file names.
    labels : dict of int to LabelRow
        Its label table; empty where that cannot be read.
    scans : tuple of ScanRecord
        By name; those without results after those with results.
    """

    root: Path
    slug: str
    labels: dict[int, LabelRow]
    scans: tuple[ScanRecord, ...]


def read_participant(
    output_dir: str | Path, participant: str, session: str | None = None
) -> list[ScanRecord]:
    """Read all results of a participant.

    Parameters
    ----------
    output_dir : str or Path
        Root of the derivatives.
    participant : str
        Label, with or without ``sub-``.
    session : str, optional
        Label, with or without ``ses-``: only this session's results.

    Returns
    -------
    list of ScanRecord
        One for each scan and model, by name; empty where there is none. Segmentations derived
        from a model's labels are left out.
    """
    root = Path(output_dir)
    sessions = (session.removeprefix('ses-'),) if session else ()
    tables: dict[str, tuple[dict[int, LabelRow], list[str]]] = {}
    records = []
    for outputs in _find(root, (participant.removeprefix('sub-'),), sessions, []):
        if outputs.slug not in tables:
            notes: list[str] = []
            tables[outputs.slug] = read_labels(root, outputs.slug, notes), notes
        labels, notes = tables[outputs.slug]
        record = read_record(outputs, labels, notes, images=True)
        if 'DerivedBy' not in record.metadata:
            records.append(record)
    return records


def read_groups(
    root: Path,
    participants: tuple[str, ...] = (),
    sessions: tuple[str, ...] = (),
) -> tuple[list[ScanGroup], list[str]]:
    """Read the results of all finished scans, except their images.

    Parameters
    ----------
    root : Path
        Root of the derivatives.
    participants, sessions : tuple of str
        Labels without prefix; empty means all.

    Returns
    -------
    groups : list of ScanGroup
        One for each model with a finished scan, by name.
    notes : list of str
        Files that could not be read or were left out, one line each.
    """
    notes: list[str] = []
    finished: dict[str, list[ScanOutputs]] = {}
    for outputs in _find(root, participants, sessions, notes):
        if os.path.isfile(outputs.dseg):
            finished.setdefault(outputs.slug, []).append(outputs)
        else:
            missing = outputs.dseg.relative_to(root)
            notes.append(f'{missing} is missing: {outputs.name.stem} is not finished, no row')
    groups = []
    for slug in sorted(finished):
        labels = read_labels(root, slug, notes)
        scans = tuple(read_record(outputs, labels) for outputs in finished[slug])
        for scan in scans:
            # Among thousands of scans a path is found sooner than a file's name.
            folder = scan.outputs.name.folder.as_posix()
            notes += [f'{folder}/{note}' for note in scan.notes]
        groups.append(ScanGroup(root, slug, labels, scans))
    return groups, [log_line(note) for note in notes]


def add_unfinished(
    group: ScanGroup, expected: Sequence[Scan], failures: Sequence[Failure]
) -> ScanGroup:
    """Add the scans that failed or have no results to a group.

    Parameters
    ----------
    group : ScanGroup
        Finished scans.
    expected : sequence of Scan
        The scans of the dataset.
    failures : sequence of Failure
        Scans that failed and have not been processed since.

    Returns
    -------
    ScanGroup
        Results of scans that failed in a later run are kept, with the status `FAILED`.
    """
    derived = any('DerivedBy' in scan.metadata for scan in group.scans)
    lines = {
        failure.title: failure.line
        for failure in failures
        if derived or failure.slug in ('', group.slug)
    }
    scans = [
        replace(record, status=FAILED, reason=lines[record.bids_name] + _EARLIER)
        if record.bids_name in lines
        else record
        for record in group.scans
    ]
    finished = {record.bids_name for record in scans}
    for scan in expected:
        if scan.label in finished:
            continue
        reason = why_absent(scan.path) or lines.get(scan.label) or _NOT_PROCESSED
        outputs = ScanOutputs(group.root, scan.name, group.slug)
        status = FAILED if scan.label in lines else MISSING
        scans.append(ScanRecord(outputs, finished=False, status=status, reason=log_line(reason)))
    return replace(group, scans=tuple(scans))


def modification_times(output_dir: Path, participant: str) -> frozenset[tuple[Path, int]]:
    """Return the results of a participant with the times of their last change.

    Parameters
    ----------
    output_dir : Path
        Root of the derivatives.
    participant : str
        Label, with or without ``sub-``.

    Returns
    -------
    frozenset of (Path, int)
        Paths and times in ns: equal as long as nobody writes there.
    """
    times = set()
    for path in _candidates(output_dir / f'sub-{participant.removeprefix("sub-")}'):
        with suppress(OSError):
            times.add((path, path.stat().st_mtime_ns))
    return frozenset(times)


def _find(
    root: Path, participants: tuple[str, ...], sessions: tuple[str, ...], notes: list[str]
) -> Iterator[ScanOutputs]:
    """Find results by their file names, each once, in the order of their names."""
    results: dict[tuple[str, str], ScanOutputs] = {}
    for path in (path for folder in _folders(root, participants) for path in _candidates(folder)):
        try:
            name = ScanName.parse(path)
        except BrainchopError as error:
            notes.append(f'{path.relative_to(root)} is left out: {error}')
            continue
        # Labels in the conformed grid belong to the same scan.
        if name.suffix != 'dseg' or {'space', 'desc'} & name.entities.keys():
            continue
        if sessions and name.session not in sessions:
            continue
        entities = {key: value for key, value in name.entities.items() if key != 'seg'}
        outputs = _of_scan(root, entities, name.entities.get('seg', ''))
        if not outputs.slug or outputs.anat != path.parent:
            notes.append(f'{path.relative_to(root)} is left out: its name does not fit its folder')
            continue
        results[outputs.name.stem, outputs.slug] = outputs
    return (outputs for _, outputs in sorted(results.items()))


def _of_scan(root: Path, entities: dict[str, str], slug: str) -> ScanOutputs:
    """Return the results of the scan whose conformed image lies beside them."""
    found = [ScanOutputs(root, ScanName(entities, name, '.nii.gz'), slug) for name in MODALITIES]
    return next((outputs for outputs in found if outputs.preproc.exists()), found[0])


def _folders(root: Path, participants: tuple[str, ...]) -> list[Path]:
    """List the participants' folders."""
    if participants:
        folders = [root / f'sub-{label}' for label in participants if label]
        return [folder for folder in folders if folder.parent == root]
    with suppress(OSError):
        return sorted(path for path in root.glob('sub-*') if path.is_dir())
    return []


def _candidates(folder: Path) -> list[Path]:
    """List possible results of a participant; not what a killed run left half written."""
    paths: list[Path] = []
    for folders in ('anat', 'ses-*/anat'):
        # A name that the file system cannot hold is as good as a missing folder.
        with suppress(OSError, ValueError):
            paths += folder.glob(f'{folders}/*_dseg.*')
    return sorted(path for path in paths if not path.name.startswith('.'))

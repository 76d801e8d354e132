"""The group level: a table and a page of all scans of a dataset, for each model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...bids.names import ScanName
from ...bids.participants import read_participants
from ...bids.query import Selection, check_dataset, find_scans
from ...system.atomic import write_text
from ...system.errors import BrainchopError, DatasetError
from ..collect import ScanGroup, add_unfinished, read_groups
from ..crashes import find_failures
from ..ratings import Rating, merge_ratings, read_ratings
from ..records import DONE
from ..text import log_line
from .page import render_group_page
from .table import GroupTable, build_table


@dataclass(frozen=True)
class GroupOutputs:
    """Files that the group level wrote, and its messages.

    Parameters
    ----------
    paths : tuple of Path
        Tables and pages.
    notes : tuple of str
        Files that could not be read or were left out, one line each.
    unfinished : tuple of str
        One line for each scan that failed or has no results, and each selected participant
        without a scan.
    """

    paths: tuple[Path, ...]
    notes: tuple[str, ...]
    unfinished: tuple[str, ...]


def write_group(
    bids_dir: Path,
    output_dir: Path,
    participants: tuple[str, ...] = (),
    sessions: tuple[str, ...] = (),
    filters: dict[str, Any] | None = None,
    database_dir: Path | None = None,
) -> GroupOutputs:
    """Gather the results of all scans.

    Parameters
    ----------
    bids_dir : Path
        The raw dataset, which tells what scans there should be. Where it cannot be read, a note
        says so, and only scans with results are listed.
    output_dir : Path
        Root of the derivatives.
    participants, sessions : tuple of str
        Labels without prefix; empty means all.
    filters : dict, optional
        Further filters for the scans of the dataset, see `brainchop_bids.bids.query.find_scans`.
    database_dir : Path, optional
        Folder of the dataset's index.

    Returns
    -------
    GroupOutputs
        A ``group_seg-<model>_dseg.tsv`` and a ``group_seg-<model>.html`` for each model. The
        page describes the columns: a JSON file beside the table would be inherited by all label
        images.

    Raises
    ------
    DatasetError
        If no scan is finished.
    OutputError
        If a file cannot be written.
    """
    groups, notes = read_groups(output_dir, participants, sessions)
    failures = find_failures(output_dir)
    if not groups:
        why = [*notes, *(f'{failure.title} failed: {failure.line}' for failure in failures)]
        raise DatasetError(
            f'{output_dir} has no finished scan that matches: run the participant level first'
            + (f' ({"; ".join(why[:3])})' if why else '')
        )
    try:
        check_dataset(bids_dir)
        dataset = find_scans(
            bids_dir,
            participants=participants,
            sessions=sessions,
            filters=filters,
            database_dir=database_dir,
        )
    except DatasetError as error:
        dataset = Selection(())
        notes.append(f'scans without results are not listed: {error}')
    groups = [add_unfinished(group, dataset.scans, failures) for group in groups]
    ratings, unread = read_ratings(output_dir)
    selected = [rating for rating in ratings if _selected(rating, participants, sessions)]
    verdicts, unused = merge_ratings(selected, {group.slug: group.scans for group in groups})
    people = read_participants(bids_dir)
    paths = [path for group in groups for path in _write(build_table(group, verdicts, people))]
    return GroupOutputs(
        tuple(paths),
        (*notes, *unread, *unused, *map(log_line, (*people.notes, *dataset.notes))),
        tuple(_unfinished(groups, dataset, participants, output_dir)),
    )


def _unfinished(
    groups: Sequence[ScanGroup],
    dataset: Selection,
    participants: Sequence[str],
    output_dir: Path,
) -> Iterator[str]:
    """Describe each scan that is not done, and what was asked for and is not there."""
    yield from map(log_line, dataset.missing)
    several = len(groups) > 1
    for group in groups:
        for scan in group.scans:
            if scan.status != DONE:
                model = f' with seg-{group.slug}' if several else ''
                yield f'{scan.status}{model}: {scan.bids_name}: {scan.reason}'
    known = {scan.participant_id for group in groups for scan in group.scans}
    for label in dict.fromkeys(participants):
        if f'sub-{label}' not in known and not any(
            line.startswith(f'sub-{label}:') for line in dataset.missing
        ):
            yield f'sub-{log_line(label)}: no finished scan in {output_dir}'


def _write(table: GroupTable) -> Iterator[Path]:
    """Write the table and the page of a model."""
    root, slug = table.group.root, table.group.slug
    for name, text in (
        (f'group_seg-{slug}_dseg.tsv', table.to_tsv()),
        (f'group_seg-{slug}.html', render_group_page(table)),
    ):
        write_text(root / name, text)
        yield root / name


def _selected(rating: Rating, participants: Sequence[str], sessions: Sequence[str]) -> bool:
    """Return whether a rating is of a selected scan; True where its name cannot be read."""
    try:
        name = ScanName.parse(f'{rating.bids_name}.nii.gz')
    except BrainchopError:
        return True
    return (not participants or name.subject in participants) and (
        not sessions or name.session in sessions
    )

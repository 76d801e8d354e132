"""The group level: a table and a page of all finished scans of each model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...bids.names import ScanName
from ...bids.participants import read_participants
from ...system.atomic import write_text
from ...system.errors import BrainchopError, DatasetError
from ..collect import read_groups
from ..ratings import Rating, merge_ratings, read_ratings
from ..text import log_line
from .page import render_group_page
from .table import build_table


@dataclass(frozen=True)
class GroupOutputs:
    """What the group level wrote, and what there is to tell.

    Parameters
    ----------
    paths : tuple of Path
        Tables and pages.
    notes : tuple of str
        What could not be read or was left out, each one line.
    missing : tuple of str
        One line for each participant that was asked for by name and has no finished scan.
    """

    paths: tuple[Path, ...]
    notes: tuple[str, ...]
    missing: tuple[str, ...]


def write_group(
    bids_dir: Path,
    output_dir: Path,
    participants: tuple[str, ...] = (),
    sessions: tuple[str, ...] = (),
) -> GroupOutputs:
    """Gather the results of all finished scans.

    Parameters
    ----------
    bids_dir : Path
        The raw dataset, of which ``participants.tsv`` is read where it is there.
    output_dir : Path
        Root of the derivatives.
    participants, sessions : tuple of str
        Labels without prefix; empty means all.

    Returns
    -------
    GroupOutputs
        A ``group_seg-<model>_dseg.tsv`` and a ``group_seg-<model>.html`` for each model. A JSON
        file beside the table would be taken by pybids for what all label images inherit; the
        page tells what the columns are.

    Raises
    ------
    DatasetError
        If there is no finished scan.
    OutputError
        If a file cannot be written.
    """
    groups, notes = read_groups(output_dir, participants, sessions)
    if not groups:
        told = f' ({"; ".join(notes[:3])})' if notes else ''
        raise DatasetError(
            f'{output_dir} has no finished scan that matches: run the participant level '
            f'first{told}'
        )
    ratings, unread = read_ratings(output_dir)
    asked = [rating for rating in ratings if _asked_for(rating, participants, sessions)]
    verdicts, unused = merge_ratings(asked, {group.slug: group.scans for group in groups})
    people = read_participants(bids_dir)
    paths = []
    for group in groups:
        table = build_table(group, verdicts, people)
        for name, text in (
            (f'group_seg-{group.slug}_dseg.tsv', table.to_tsv()),
            (f'group_seg-{group.slug}.html', render_group_page(table)),
        ):
            write_text(output_dir / name, text)
            paths.append(output_dir / name)
    there = {scan.outputs.name.subject for group in groups for scan in group.scans}
    missing = [
        f'sub-{log_line(label)}: no finished scan in {output_dir}'
        for label in dict.fromkeys(participants)
        if label not in there
    ]
    lines = [*notes, *unread, *unused, *map(log_line, people.notes)]
    return GroupOutputs(tuple(paths), tuple(lines), tuple(missing))


def _asked_for(rating: Rating, participants: Sequence[str], sessions: Sequence[str]) -> bool:
    """Say whether a rating is of a scan that was asked for, as far as its name can be read."""
    try:
        name = ScanName.parse(f'{rating.bids_name}.nii.gz')
    except BrainchopError:
        return True
    return (not participants or name.subject in participants) and (
        not sessions or name.session in sessions
    )

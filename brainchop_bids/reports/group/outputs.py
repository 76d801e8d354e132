"""The group level: a table and a page of all finished scans of each model."""

from collections.abc import Iterator, Sequence
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
    missing : tuple of str
        One line for each selected participant without a finished scan.
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
    if not groups:
        raise DatasetError(
            f'{output_dir} has no finished scan that matches: run the participant level first'
            + (f' ({"; ".join(notes[:3])})' if notes else '')
        )
    ratings, unread = read_ratings(output_dir)
    selected = [rating for rating in ratings if _selected(rating, participants, sessions)]
    verdicts, unused = merge_ratings(selected, {group.slug: group.scans for group in groups})
    people = read_participants(bids_dir)
    paths = [path for group in groups for path in _write(build_table(group, verdicts, people))]
    finished = {scan.participant_id for group in groups for scan in group.scans}
    missing = [label for label in dict.fromkeys(participants) if f'sub-{label}' not in finished]
    return GroupOutputs(
        tuple(paths),
        (*notes, *unread, *unused, *map(log_line, people.notes)),
        tuple(f'sub-{log_line(label)}: no finished scan in {output_dir}' for label in missing),
    )


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

"""The group level: one table of all scans' volumes for each model."""

import csv
import json
from pathlib import Path

from ..errors import DatasetError
from ..publish import write_text
from .derivatives import sidecar
from .names import ScanName


def write_group_tables(
    output_dir: Path, participants: tuple[str, ...] = (), sessions: tuple[str, ...] = ()
) -> list[Path]:
    """Gather the volumes of all finished scans, one row a scan.

    Parameters
    ----------
    output_dir : Path
        Root of the derivatives; nothing else is read.
    participants, sessions : tuple of str
        Labels without prefix; empty means all.

    Returns
    -------
    list of Path
        A ``group_seg-<model>_dseg.tsv`` for each model.

    Raises
    ------
    DatasetError
        If there is no finished scan.
    OutputError
        If a table cannot be written.
    """
    rows: dict[str, list[dict[str, str]]] = {}
    for path in sorted(output_dir.glob('sub-*/**/anat/*_dseg.tsv')):
        name = ScanName.parse(path)
        if participants and name.subject not in participants:
            continue
        if sessions and name.session not in sessions:
            continue
        rows.setdefault(name.entities['seg'], []).append(_row(path, name))
    if not rows:
        raise DatasetError(
            f'{output_dir} has no finished scan that matches: run the participant level first'
        )
    return [_write(output_dir, slug, table) for slug, table in rows.items()]


def _row(path: Path, name: ScanName) -> dict[str, str]:
    """Return the entities, the brain volume and the volume of each label of one scan."""
    row = {'participant_id': f'sub-{name.subject}'}
    row['source'] = '_'.join(f'{k}-{v}' for k, v in name.entities.items() if k != 'seg')
    try:
        row['brain_volume'] = str(json.loads(sidecar(path).read_text())['BrainVolume'])
    except (OSError, ValueError, KeyError, TypeError):
        row['brain_volume'] = 'n/a'
    with path.open(newline='') as file:
        for line in csv.DictReader(file, delimiter='\t'):
            if line['index'] != '0':
                row[line['name'].replace(' ', '-')] = line['volume']
    return row


def _write(output_dir: Path, slug: str, table: list[dict[str, str]]) -> Path:
    columns = list(dict.fromkeys(column for row in table for column in row))
    lines = ['\t'.join(columns)]
    lines += ['\t'.join(row.get(column, 'n/a') for column in columns) for row in table]
    path = output_dir / f'group_seg-{slug}_dseg.tsv'
    write_text(path, '\n'.join(lines) + '\n')
    return path

"""Files of ``brainchop-segment``: those of one scan as given, those of several in a folder."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..system.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..api.segmenter import Written
    from ..inference.scan_settings import ScanOptions, ScanSettings

# Given by options without a file name.
AFTER_SCAN = Path()
# Options that write a further file, and the end of its name in a folder.
_ENDINGS = {
    'mask': '_mask',
    'brain': '_brain',
    'probseg': '_probseg',
    'uncertainty': '_entropy',
    'volumes': '_volumes.tsv',
    'stats': '_stats.json',
    'preview': '_preview.png',
}


def plan_scan(
    arguments: argparse.Namespace, options: 'ScanOptions'
) -> 'tuple[list[ScanSettings], list[str]]':
    """Return the settings of the scan of a command line without ``--out``.

    Parameters
    ----------
    arguments : Namespace
        Parsed arguments.
    options : ScanOptions
        Options that do not name files.

    Returns
    -------
    scans : list of ScanSettings
        The scan.
    notes : list of str
        Empty.

    Raises
    ------
    SettingsError
        If files are missing, or there are too many.
    """
    from ..inference.scan_settings import ScanSettings

    if len(arguments.files) != 2:
        given = ', '.join(map(str, arguments.files))
        raise SettingsError(
            f'expected a scan and the label image to write, or scans and --out DIR; given: {given}'
        )
    t1w, out = arguments.files
    files = {name: getattr(arguments, name) for name in _ENDINGS}
    unnamed = [f'--{name}' for name, path in files.items() if path is AFTER_SCAN]
    unnamed += [f'--derived {name}=' for name, path in arguments.derived if path is AFTER_SCAN]
    if unnamed:
        raise SettingsError(f'{unnamed[0]}: give the name of a file (only --out needs none)')
    channels, derived = tuple(arguments.channel), tuple(arguments.derived)
    files |= {'channels': channels, 'derived': derived}
    return [ScanSettings(t1w, out, **files, **vars(options))], []


def plan_folder(
    arguments: argparse.Namespace, options: 'ScanOptions'
) -> 'tuple[list[ScanSettings], list[str]]':
    """Return the settings of each scan of a command line with ``--out``; make the folder.

    Parameters
    ----------
    arguments, options
        As for `plan_scan`.

    Returns
    -------
    scans : list of ScanSettings
        The scans.
    notes : list of str
        One line for each scan whose outputs do not have its name.

    Raises
    ------
    SettingsError
        If a file is named, an output would replace a scan or another output, or the folder
        cannot be made.
    """
    from ..inference.naming import distinct_names, list_scans

    _refuse_names(arguments)
    folder: Path = arguments.out
    scans = list_scans(arguments.files)
    names, notes = distinct_names(scans)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f'{folder}: is no folder and cannot be made ({error.strerror}); choose another one'
        ) from error
    wanted = [name for name in _ENDINGS if getattr(arguments, name) is not None]
    derived = [name for name, _ in arguments.derived]
    planned = [
        _in_folder(scan, folder / name, wanted, derived, options)
        for scan, name in zip(scans, names, strict=True)
    ]
    _refuse_overwriting(planned)
    return planned, notes


def write_volumes_of_all(results: 'Sequence[Written]', folder: Path) -> Path:
    """Write one table of the volumes of all scans, in a row each.

    Parameters
    ----------
    results : sequence of Written
        Results of one model with tables of volumes; scans that failed have no row.
    folder : Path
        Folder for ``volumes.tsv``.

    Returns
    -------
    Path
        The table: ``scan``, its ``confidence``, ``total intracranial`` if the model measures it,
        and the labels except background, in mm^3.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    from ..system.atomic import write_text
    from ..system.text import table_cell

    lines: list[str] = []
    for result in results:
        if result.facts is None or result.settings.volumes is None:
            continue
        text = result.settings.volumes.read_text('utf-8')
        # The first two rows are the columns' names and background.
        rows = [line.split('\t') for line in text.splitlines()[2:]]
        certain = result.facts['quality'].get('confidence', 'n/a')
        cells = {'scan': table_cell(str(result.settings.t1w)), 'confidence': str(certain)}
        if 'intracranial_mm3' in result.facts:
            cells['total intracranial'] = f'{result.facts["intracranial_mm3"]:.3f}'
        if not lines:
            lines.append('\t'.join([*cells, *(row[1] for row in rows)]))
        lines.append('\t'.join([*cells.values(), *(row[3] for row in rows)]))
    path = folder / 'volumes.tsv'
    write_text(path, ''.join(f'{line}\n' for line in lines))
    return path


def _refuse_names(arguments: argparse.Namespace) -> None:
    named = [
        f'--{name}' for name in _ENDINGS if getattr(arguments, name) not in (None, AFTER_SCAN)
    ]
    named += [f'--derived {name}' for name, path in arguments.derived if path is not AFTER_SCAN]
    if named:
        raise SettingsError(
            f'{named[0]}: takes no file name with --out, which names files after the scans; put '
            'the scans before the options'
        )
    if arguments.channel:
        raise SettingsError(
            '--channel: names scans of one head; segment one scan at a time, without --out'
        )


def _in_folder(
    scan: Path, stem: Path, wanted: list[str], derived: list[str], options: 'ScanOptions'
) -> 'ScanSettings':
    """Return the settings of a scan whose outputs begin with a path."""
    from ..inference.naming import image_suffix
    from ..inference.scan_settings import ScanSettings

    def output(ending: str, suffix: str = image_suffix(scan)) -> Path:
        return stem.with_name(stem.name + ending + ('' if '.' in ending else suffix))

    files: dict[str, Any] = {name: output(_ENDINGS[name]) for name in wanted}
    if 'probseg' in files and image_suffix(scan) != '.mgz':
        files['probseg'] = output(_ENDINGS['probseg'], '.nii')
    tables = tuple((name, output(f'_{name}_dseg')) for name in derived)
    return ScanSettings(scan, output('_dseg'), derived=tables, **files, **vars(options))


def _refuse_overwriting(planned: 'list[ScanSettings]') -> None:
    """Refuse outputs that would replace a scan or an output of another scan."""
    owners = {os.path.realpath(settings.t1w): settings.t1w for settings in planned}
    for settings in planned:
        for path in settings.outputs:
            other = owners.setdefault(os.path.realpath(path), settings.t1w)
            if other != settings.t1w:
                raise SettingsError(
                    f'{path}: is an output of {settings.t1w} and belongs to {other}, too; choose '
                    'another folder for --out, or rename one of them'
                )

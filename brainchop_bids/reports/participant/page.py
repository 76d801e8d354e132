"""The page of a participant: one file that needs no network and no other files."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ...bids.derivatives import page_path
from ...models.brain_measures import MEASURES
from ...quality.descriptions import describe_measure
from ...system.atomic import write_text
from .. import LABEL_ALPHA, UNKNOWN_COLOR
from ..collect import modification_times, read_participant
from ..crashes import Failure, find_failures
from ..records import ScanRecord
from ..render import dataset_name, fixed, render_template, webp_uri
from ..sidecars import number, plain
from .methods import render_methods
from .volumes import list_structures

# With more labels than this the colours stand in the table alone.
_LEGEND_MOST = 24
_TRIES = 5
_VIEWER = ('volumes.js', 'gestures.js', 'surface.js', 'projection.js', 'viewer.js')
_SCRIPTS = ('layers.js', 'tables.js', *_VIEWER, 'ratings.js', 'copy.js')
_PICTURES = ('cuts', 'labels', 'outline', 'uncertainty', 'conform')


def write_participant_page(
    output_dir: str | Path,
    participant: str,
    session: str | None = None,
    *,
    viewer: bool = True,
) -> Path | None:
    """Write the page of a participant from the derivatives.

    Parameters
    ----------
    output_dir : str or Path
        Root of the derivatives.
    participant : str
        Label, with or without ``sub-``.
    session : str, optional
        Label, with or without ``ses-``: a page of this session alone.
    viewer : bool
        Whether to include the viewer, that is all slices.

    Returns
    -------
    Path or None
        ``sub-01.html`` or ``sub-01_ses-A.html`` in ``output_dir``; None, and no file, where
        the participant has neither results nor failures.

    Raises
    ------
    OutputError
        If the page cannot be written; what was there stays.
    """
    root = Path(output_dir)
    page = page_path(root, participant, session)
    for _ in range(_TRIES):
        before = modification_times(root, participant)
        scans = read_participant(root, participant, session)
        failures = find_failures(root, participant, session)
        if not scans and not failures:
            return None
        write_text(page, render_page(root, page.stem, scans, failures, viewer=viewer))
        # Another run may have replaced results while they were read.
        if modification_times(root, participant) == before:
            break
    return page


def render_page(
    root: Path,
    heading: str,
    scans: list[ScanRecord],
    failures: Sequence[Failure] = (),
    *,
    viewer: bool = True,
) -> str:
    """Return the page as HTML.

    Parameters
    ----------
    root : Path
        Root of the derivatives, for the methods text and the dataset's name.
    heading : str
        Heading, for instance ``'sub-01'``.
    scans : list of ScanRecord
        The results to show.
    failures : sequence of Failure
        Scans that failed.
    viewer : bool
        Whether to include the viewer, that is all slices.

    Returns
    -------
    str
        A whole document without characters that UTF-8 or HTML cannot hold.
    """
    blocks: dict[Path, str] = {}
    sections = [_section(scan, blocks, viewer=viewer) for scan in scans]
    return render_template(
        'participant.html',
        heading=heading,
        scripts=_SCRIPTS,
        dataset=dataset_name(root),
        models=list(dict.fromkeys(scan.model for scan in scans)),
        volumes=[
            (title, _volume_range(volumes))
            for title, volumes in (
                ('Grey and white matter', [scan.tissue_volume for scan in scans]),
                ('Brain mask', [scan.brain_volume for scan in scans]),
            )
            if any(volume is not None for volume in volumes)
        ],
        unfinished_models=_model_states(scans),
        opacity=round(100 * LABEL_ALPHA),
        scans=[
            _scan_context(scan, section) for scan, section in zip(scans, sections, strict=True)
        ],
        failures=failures,
        methods=_methods(root),
        data={'heading': heading, 'sections': sections},
        blocks=[{'id': name, 'base64': _base64(path)} for path, name in blocks.items()],
    )


def _section(scan: ScanRecord, blocks: dict[Path, str], *, viewer: bool) -> dict[str, Any]:
    """Arrange a result for the scripts; add the files that they unpack to ``blocks``.

    Models of one scan share its slices.
    """
    files = {name: scan.figures.get(name) for name in ('slices', 'volume')}
    grid = _grid(scan.figures.get('grid')) if viewer else None
    return {
        'anchor': scan.outputs.anchor,
        'grid': grid,
        **{
            name: blocks.setdefault(path, f'block-{len(blocks) + 1}') if path and grid else None
            for name, path in files.items()
        },
        'labels': [
            {'value': index, 'name': label.name, 'color': _rgb(label.color)}
            for index, label in scan.labels.items()
        ],
        'structures': [
            {
                'name': structure.name,
                'values': [label.index for label in structure.labels],
                'fluid': structure.labels[0].fluid,
            }
            for structure in list_structures(scan)
        ],
        'rated': {
            'participant_id': scan.participant_id,
            'bids_name': scan.bids_name,
            'model': scan.slug,
            'source_sha256': scan.source_sha256,
            'model_sha256': scan.model_sha256,
        },
    }


def _grid(path: Path | None) -> dict[str, Any] | None:
    """Read the grid of the viewer's slices; None where it is missing or invalid."""
    try:
        grid: Any = json.loads(path.read_text('utf-8')) if path else None
        shape, columns, affine = grid['shape'], grid['columns'], grid['affine']
        whole = [*shape, columns]
        if not all(isinstance(size, int) and 0 < size < 5000 for size in whole):
            return None
        lengths = (len(shape), *(len(row) for row in affine))
        numbers = all(number(value) is not None for row in affine for value in row)
        return grid if lengths == (3, 4, 4, 4) and numbers else None
    except (OSError, ValueError, RecursionError, TypeError, KeyError):
        return None


def _rgb(color: str | None) -> list[int]:
    """Return the parts of ``#rrggbb``."""
    return list(bytes.fromhex(color[1:])) if color else list(UNKNOWN_COLOR)


def _base64(path: Path) -> str:
    try:
        return base64.b64encode(path.read_bytes()).decode()
    except OSError:
        return ''


def _scan_context(scan: ScanRecord, section: dict[str, Any]) -> dict[str, Any]:
    """Arrange a record for the template."""
    total = scan.labelled_volume
    pictures = {name: _data_uri(scan.figures.get(name)) for name in _PICTURES}
    return {
        'title': scan.bids_name,
        'anchor': scan.outputs.anchor,
        'model': scan.model,
        'source': scan.source,
        'finished': scan.finished,
        'volumes': [
            (title, volume)
            for title, volume in (
                ('grey and white matter', scan.tissue_volume),
                ('brain mask, which includes fluid between gyri,', scan.brain_volume),
                ('intracranial volume (eTIV)', scan.intracranial_volume),
            )
            if volume is not None
        ],
        'tissue_volume': scan.tissue_volume,
        'brain_volume': scan.brain_volume,
        'flags': scan.flags or (),
        'checked': scan.flags is not None,
        'warnings': scan.warnings + scan.notes,
        'cuts': pictures['cuts'],
        'labels_layer': pictures['labels'],
        'outline_layer': pictures['outline'],
        'uncertainty_layer': pictures['uncertainty'],
        'conform': pictures['conform'],
        'viewer': section['slices'] is not None,
        'alt': _alternative_text(scan),
        'legend': scan.rows if len(scan.rows) <= _LEGEND_MOST else (),
        'structures': list_structures(scan),
        'brain_measures': [
            (name, value, MEASURES[name].description if name in MEASURES else '')
            for name, value in scan.brain_measures.items()
            if value is not None
        ],
        'measures': [
            (name, value, describe_measure(name))
            for name, value in scan.measures.items()
            if value is not None
        ],
        'total': total,
        'grids': scan.grids,
        'settings': _settings(scan),
        'steps': _steps(scan),
    }


def _alternative_text(scan: ScanRecord) -> str:
    """Describe the picture for screen readers."""
    names = [row.name for row in scan.rows]
    listed = ', '.join(names) or 'no labels'
    if len(names) > _LEGEND_MOST:
        listed = f'{len(names)} labels'
    return (
        f'Axial, coronal and sagittal cuts through {scan.bids_name} with labels filled in: '
        f'{listed}. The volumes are in the table of labels.'
    )


def _volume_range(volumes: Sequence[float | None]) -> str:
    """Write the volume of one scan, or the range of several, in litres."""
    known = [volume for volume in volumes if volume is not None]
    ends = dict.fromkeys(f'{volume / 1e6:.2f}' for volume in (min(known), max(known)))
    return f'{"–".join(ends)} L'


def _model_states(scans: Sequence[ScanRecord]) -> list[str]:
    """Describe the models that are not finished, such as provisional ones."""
    states = {scan.model: scan.text('Model', 'Status') for scan in scans}
    return [f'{model} is {status}' for model, status in states.items() if status]


def _settings(scan: ScanRecord) -> list[tuple[str, str]]:
    """List the settings of the result, as far as they are known."""
    removed = scan.table('Components')
    counts = [
        f'{fixed(count)} {what}'
        for key, what in (('RemovedComponents', 'components'), ('RemovedVoxels', 'voxels'))
        if (count := number(removed.get(key))) is not None
    ]
    listed = [
        ('Program', ' '.join(filter(None, ['brainchop-bids', scan.text('Brainchop', 'Version')]))),
        ('Model', scan.model),
        ('Status of the model', scan.text('Model', 'Status')),
        ('Model checksum (SHA-256)', scan.model_sha256),
        ('Classes', scan.text('Model', 'Classes')),
        ('Normalisation', scan.text('Model', 'Normalization')),
        ('Engine', scan.text('Engine')),
        ('Localised', _localised(scan)),
        ('Components kept', scan.text('Components', 'Rule')),
        ('Removed', ', '.join(counts)),
        ('Scan', scan.source),
        ('Scan checksum (SHA-256)', scan.source_sha256),
    ]
    listed += [
        (f'Setting {key}', value) for key, value in _flatten(scan.table('Brainchop', 'Settings'))
    ]
    return [(term, value) for term, value in listed if value]


def _localised(scan: ScanRecord) -> str:
    """Describe where the brain was found and what followed; empty if it was not sought."""
    found = scan.table('Localisation')
    if not found:
        return ''
    by = (
        f'{scan.text("Localisation", "Organ")} by {scan.text("Localisation", "Localiser", "Name")}'
    )
    if found.get('Found') is not True:
        return f'{by}: not found'
    box, moved = found.get('BoxMM'), found.get('FieldMovedMM')
    sides = [plain(side) for side in box] if isinstance(box, list) else []
    certainty = fixed(number(found.get('Certainty')), 2)
    parts = [f'{by}: {"; ".join(sides)} mm (x; y; z), certainty {certainty}']
    parts.append(f'field of view moved by {plain(moved)} mm' if moved else 'field not moved')
    if found.get('LabelsRestricted') is True:
        parts.append(f'{fixed(number(found.get("RemovedVoxels")))} voxels beyond it removed')
    else:
        parts.append('no labels removed')
    return ', '.join(parts)


def _flatten(table: dict[str, Any], prefix: str = '') -> list[tuple[str, str]]:
    """Turn settings into lines of dotted keys; deeper than three levels is left out."""
    lines = []
    for key, value in table.items():
        if isinstance(value, dict) and prefix.count('.') < 2:
            lines += _flatten(value, f'{prefix}{key}.')
        else:
            lines.append((f'{prefix}{key}', plain(value)))
    return lines


def _steps(scan: ScanRecord) -> list[tuple[str, float | None, float | None]]:
    """List seconds and peak megabytes of each step."""
    seconds, memory = scan.table('Seconds'), scan.table('PeakMemoryMB')
    return [
        (step, number(seconds.get(step)), number(memory.get(step)))
        for step in dict.fromkeys([*seconds, *memory])
    ]


def _data_uri(picture: Path | None) -> str | None:
    """Return a WebP file as a data URI, or None where it is missing."""
    try:
        return webp_uri(picture.read_bytes()) if picture else None
    except OSError:
        return None


def _methods(root: Path) -> Markup:
    """Read the methods text; empty where it is missing."""
    try:
        return render_methods((root / 'logs' / 'CITATION.md').read_text('utf-8', 'replace'))
    except OSError:
        return Markup()

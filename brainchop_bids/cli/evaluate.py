"""``brainchop-evaluate``: score segmentations against references."""

import argparse
import csv
import io
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..app.outcome import DONE, FAILED, outcome, say
from ..system.errors import BrainchopError, SettingsError
from ..system.text import table_cell
from .options import Parser

PROG = 'brainchop-evaluate'
_SUMMARY = ('dice', 'jaccard', 'hausdorff95_mm', 'mean_surface_distance_mm', 'volume_similarity')


def main(argv: Sequence[str] | None = None) -> int:
    """Score one segmentation or all segmentations of a dataset.

    Parameters
    ----------
    argv : sequence of str, optional
        Command line; by default that of the process.

    Returns
    -------
    int
        0 done, 1 a pair could not be compared, 2 the command cannot run as given.
    """
    arguments = build_parser().parse_args(argv)
    return outcome(PROG, lambda: _run(arguments))


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of ``brainchop-evaluate``."""
    parser = Parser(
        prog=PROG,
        description='Compare segmentations with references, label by label: Dice, Jaccard, 95 % '
        'Hausdorff distance, mean surface distance, volume similarity.',
        epilog='A segmentation on another grid is resampled to that of its reference, and a note '
        'says so. Exit code: 0 done, 1 a pair could not be compared, 2 the command cannot run as '
        'given.',
    )
    parser.add_argument(
        'predicted',
        metavar='PRED',
        type=Path,
        help='segmentation: label image, or BIDS derivative dataset',
    )
    parser.add_argument('reference', metavar='REF', type=Path, help='reference of the same kind')
    table = 'TSV with the columns code and index, a dseg.tsv with index and mapping, or a name'
    parser.add_argument(
        '--mapping',
        metavar='TABLE',
        help=f"table from the reference's codes to labels: {table} (aseg_to_tissue)",
    )
    parser.add_argument(
        '--pred-mapping', metavar='TABLE', help="table from the segmentation's codes to labels"
    )
    for side in ('pred', 'ref'):
        parser.add_argument(
            f'--{side}-filter',
            metavar='KEY=VALUE',
            action='append',
            default=[],
            help=('use only files of the dataset that have this BIDS entity, e.g. seg=tissue'),
        )
    parser.add_argument(
        '--out', metavar='FILE.tsv', type=Path, help='also write all scores to this file'
    )
    parser.add_argument(
        '--no-surfaces',
        action='store_true',
        help='do not compute surface distances, which take about a minute',
    )
    parser.add_argument('--version', action='version', version=f'{PROG} {__version__}')
    return parser


def _run(arguments: argparse.Namespace) -> int:
    from ..evaluation.pairs import align, find_pairs
    from ..evaluation.scores import score
    from ..image.io import read_volume
    from ..models.mapping import read_mapping
    from ..system.atomic import write_text

    given = (arguments.pred_mapping, arguments.mapping)
    mappings = [None if name is None else read_mapping(name) for name in given]
    filters = (_filter(arguments.pred_filter), _filter(arguments.ref_filter))
    pairs, notes = find_pairs(arguments.predicted, arguments.reference, filters)
    for note in notes:
        say(PROG, note)
    rows: list[dict[str, Any]] = []
    failed = 0
    for pair in pairs:
        try:
            loaded = align(read_volume(pair.predicted), read_volume(pair.reference), *mappings)
            if loaded.note:
                say(PROG, f'{pair.name}: {loaded.note}')
            surfaces = not arguments.no_surfaces
            rows += score(pair.name, loaded, mappings, surfaces=surfaces)
        except BrainchopError as error:
            failed += 1
            say(PROG, f'error: {error}')
    if rows and arguments.out:
        write_text(arguments.out, _table(rows))
    if rows:
        print(_summary(rows))
    return FAILED if failed else DONE


def _table(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter='\t', lineterminator='\n')
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _cell(value) for key, value in row.items()})
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return 'n/a' if math.isnan(value) else f'{value:.6g}'
    return table_cell(value) if isinstance(value, str) else value


def _summary(rows: list[dict[str, Any]]) -> str:
    """Return the mean of each label, and the standard deviation if there are several scans."""
    scans = len({row['scan'] for row in rows})
    heads = [*(key.removesuffix('_mm').replace('_', ' ') for key in _SUMMARY)]
    width = max(max(len(row['name']) for row in rows), 5)
    lines = [' '.join([f'{"label":{width}}', *(f'{head:>21}' for head in heads)])]
    for name in dict.fromkeys(row['name'] for row in rows):
        cells = []
        for key in _SUMMARY:
            values = [row[key] for row in rows if row['name'] == name]
            values = [value for value in values if not math.isnan(value)]
            text = f'{statistics.mean(values):.4f}' if values else 'n/a'
            if len(values) > 1:
                text += f' ({statistics.stdev(values):.4f})'
            cells.append(f'{text:>21}')
        lines.append(' '.join([f'{name:{width}}', *cells]))
    kind = 'means (standard deviations)' if scans > 1 else 'distances in mm'
    return '\n'.join([f'{scans} scan{"s" * (scans > 1)}; {kind}', *lines])


def _filter(texts: Sequence[str]) -> dict[str, str]:
    entities = {}
    for text in texts:
        key, sign, value = text.partition('=')
        if not (sign and key.isalpha() and value):
            raise SettingsError(f'filter {text!r}: expected KEY=VALUE, as in seg=tissue')
        entities[key] = value
    return entities


if __name__ == '__main__':
    sys.exit(main())

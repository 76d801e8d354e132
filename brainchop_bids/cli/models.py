"""``brainchop-models``: list, download, check, import and convert models."""

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..app.outcome import DONE, FAILED, outcome, say
from ..system.errors import BrainchopError, ModelError, SettingsError
from ..system.text import printable, show
from .options import Parser

if TYPE_CHECKING:
    from ..models.spec import ModelSpec

PROG = 'brainchop-models'
_FORMATS = ('tfjs', 'keras', 'h5', 'safetensors', 'onnx', 'openvino')
_WEB = 'web'
# Multiplications per second of two cores of an AMD EPYC with AVX-512, over upstream's models.
_PRODUCTS_A_SECOND = 6e10


def main(argv: Sequence[str] | None = None) -> int:
    """List, fetch, check, import and convert models.

    Parameters
    ----------
    argv : sequence of str, optional
        Command line; by default that of the process.

    Returns
    -------
    int
        0 done, 1 a model is damaged or unavailable, 2 the command cannot run as given.
    """
    arguments = build_parser().parse_args(argv)
    return outcome(PROG, lambda: int(arguments.work(arguments)))


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of ``brainchop-models``."""
    parser = Parser(
        prog=PROG,
        description='List, download, check, import and convert models. Only `get` uses the '
        'network.',
        epilog='Exit code: 0 done, 1 a model is damaged or unavailable, 2 the command cannot '
        'run as given.',
    )
    parser.add_argument('--version', action='version', version=f'{PROG} {__version__}')
    commands = parser.add_subparsers(title='commands', metavar='COMMAND', required=True)
    folder = Parser(add_help=False)
    folder.add_argument(
        '--models-dir',
        metavar='DIR',
        type=Path,
        help=(
            'folder that contains model folders (default: $BRAINCHOP_MODELS, or else the cache)'
        ),
    )

    def command(name: str, work: Callable[[Any], int], text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text, parents=[folder])
        made.set_defaults(work=work)
        return made

    listed = command('list', _list, 'list the models that are installed or can be fetched')
    listed.add_argument('--json', action='store_true', help='print them as JSON')
    info = command('info', _info, 'print all that is known about a model')
    info.add_argument('model', metavar='NAME|DIR', help='name or folder of the model')
    get = command('get', _get, 'download published models and check their SHA-256')
    get.add_argument('names', metavar='NAME', nargs='*', help='names of models, as in list')
    get.add_argument('--all', action='store_true', help='download all published models')
    get.add_argument(
        '--mirror',
        metavar='URL',
        help="address to download model folders from (default: upstream's); a server has a minute "
        'for each file, and a second for each 20 kB of it',
    )
    verify = command(
        'verify', _verify, "check a model's files, shapes, and the labels of a test volume"
    )
    verify.add_argument(
        'names',
        metavar='NAME|DIR',
        nargs='*',
        help='models to check (default: all that are installed)',
    )
    bring = command(
        'import',
        _import,
        "copy a model of any supported format into a folder of this package's form",
    )
    bring.add_argument('folder', metavar='DIR', type=Path, help="folder with the model's files")
    bring.add_argument('--name', help='name of the new model (default: that of the folder)')
    convert = command('convert', _convert, 'write a model in the format of another program')
    convert.add_argument('model', metavar='NAME|DIR', help='name or folder of the model')
    convert.add_argument(
        'format',
        metavar='FORMAT',
        choices=(*_FORMATS, _WEB),
        help=f'format to write: {", ".join(_FORMATS)}; or {_WEB}, a folder for any web server: '
        'the page of brainchop-web with this model',
    )
    convert.add_argument('out', metavar='OUT', type=Path, help='folder for the files')
    return parser


def _list(arguments: argparse.Namespace) -> int:
    from ..models.registry import published_models
    from ..models.zoo import list_models, search_folders

    found: dict[str, dict[str, Any]] = {}
    for place in search_folders(arguments.models_dir):
        for name in list_models(place):
            if name not in found:
                found[name] = _known(place / name)
    for name, model in published_models().items():
        facts = {'task': model.task, 'classes': model.classes, 'licence': model.license}
        found.setdefault(name, {'name': name, **facts, 'get': f'brainchop-models get {name}'})
    if arguments.json:
        print(json.dumps(list(found.values()), indent=2))
        return DONE
    titles = ['name', 'task', 'classes', 'weights', 'GB', 's', 'status', 'licence', 'where']
    _print_table([titles, *(_row(facts) for facts in found.values())])
    print('GB and s are about what 256^3 voxels take, s on two cores')
    return DONE


def _known(folder: Path) -> dict[str, Any]:
    """Return what is known about an installed model."""
    from ..models.spec import load_spec

    place = {'name': folder.name, 'folder': str(folder)}
    try:
        spec = load_spec(folder)
    except BrainchopError as error:
        return {**place, 'error': str(error)}
    return {
        **place,
        'task': spec.task,
        'classes': spec.classes,
        'labels': [label.name for label in spec.labels],
        'weights': spec.parameters,
        'memory_gb': round(_memory_gb(spec), 2),
        'seconds': round(_seconds(spec), 1),
        'status': spec.status,
        'licence': spec.license,
    }


def _row(facts: dict[str, Any]) -> list[str]:
    """Return the row of a table."""
    if 'error' in facts:
        return [facts['name'], *7 * [''], f'at fault: {facts["error"]}']
    forms = {'weights': ',', 'memory_gb': '.1f', 'seconds': '.0f'}
    numbers = [format(facts[key], form) if key in facts else '' for key, form in forms.items()]
    where = facts.get('folder') or facts['get'].removeprefix(f'{PROG} ')
    words = [facts.get('status') or '', facts['licence'] or 'not said', where]
    return [facts['name'], facts['task'] or '', str(facts['classes']), *numbers, *words]


def _volume(spec: 'ModelSpec') -> tuple[int, ...]:
    """Return the shape that a model computes of a scan of 256^3 voxels."""
    from ..image.conform import CONFORMED_SHAPE

    x, y, z = CONFORMED_SHAPE
    # A localiser looks at its frames along all axes.
    return (x + y + z, *spec.input_shape[1:]) if spec.localises else (x, y, z)


def _memory_gb(spec: 'ModelSpec') -> float:
    from ..inference.localise.localiser import BATCH
    from ..inference.memory import estimate_peak_gb

    shape = _volume(spec)
    return estimate_peak_gb(spec, shape, tile=(BATCH, *shape[1:]) if spec.localises else None)


def _seconds(spec: 'ModelSpec') -> float:
    return spec.products * math.prod(_volume(spec)) / _PRODUCTS_A_SECOND


def _print_table(rows: list[list[str]]) -> None:
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [
            cell.rjust(width)
            if rows[0][i] in ('classes', 'weights', 'GB', 's')
            else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        print('  '.join([*cells, row[-1]]).rstrip())


def _info(arguments: argparse.Namespace) -> int:
    from ..models.spec import load_spec
    from ..models.zoo import find_model

    spec = load_spec(find_model(arguments.model, arguments.models_dir))
    sides = spec.input_shape[1:] if spec.localises else spec.input_shape
    facts = {
        'name': spec.name,
        'folder': spec.folder,
        'format': spec.format,
        'task': spec.task or 'not said',
        'classes': spec.classes,
        'weights': f'{spec.parameters:,}',
        'widest layer': f'{spec.channels} channels',
        'input': ' x '.join(map(str, (*sides, spec.in_channels))),
        'normalisation': spec.normalization,
        'memory': f'about {_memory_gb(spec):.1f} GB for 256^3',
        'time': f'about {_seconds(spec):.0f} s for 256^3 on two cores',
        'status': spec.status or 'not said',
        'licence': spec.license or 'not said',
        'citation': spec.citation or 'none given',
        'sha256': spec.sha256,
    }
    for key, value in facts.items():
        show(f'{key + ":":15}{value}')
    print('labels:')
    codes = [
        str(label.freesurfer) if label.freesurfer is not None else '' for label in spec.labels
    ]
    _print_table(
        [
            ['  index', 'name', 'abbreviation', 'color', 'FreeSurfer'],
            *(
                [f'  {label.index}', label.name, label.abbreviation, label.hex_color, code]
                for label, code in zip(spec.labels, codes, strict=True)
            ),
        ]
    )
    for warning in spec.warnings:
        say(PROG, f'warning: {warning}')
    return DONE


def _get(arguments: argparse.Namespace) -> int:
    from ..models.fetch import check_mirror, fetch_model
    from ..models.registry import published_models, published_name
    from ..models.zoo import cache_folder, list_models, search_folders

    known, packaged = published_models(), search_folders()[0]
    own = list_models(packaged)
    given = list(known) if arguments.all else arguments.names
    names = [name if name in own else published_name(name) for name in given]
    there = [name for name in names if name in own]
    for name in there:
        other = published_name(name)
        more = f"; brainchop's own {name} is {other}" if other != name else ''
        say(PROG, f'{name} comes with the package, there is nothing to fetch{more}')
        show(packaged / name)
    names = [name for name in names if name not in there]
    unknown = [name for name in names if name not in known]
    if unknown or not (names or there):
        raise SettingsError(
            f'{", ".join(unknown) or "no name given"}: expected --all, or names of '
            f'{", ".join(known)}'
        )
    if arguments.mirror is not None:
        check_mirror(arguments.mirror)
    folder, failed = cache_folder(arguments.models_dir), 0
    for name in names:
        try:
            target = fetch_model(
                known[name],
                folder,
                mirror=arguments.mirror,
                report=lambda line: say(PROG, line),
            )
        except BrainchopError as error:
            say(PROG, f'error: {error}')
            failed += 1
        else:
            show(target)
    return FAILED if failed else DONE


def _verify(arguments: argparse.Namespace) -> int:
    from ..models.zoo import find_model, list_models, search_folders

    if arguments.names:
        folders = [find_model(name, arguments.models_dir) for name in arguments.names]
    else:
        places = search_folders(arguments.models_dir)
        folders = [place / name for place in places for name in list_models(place)]
    failed = 0
    for folder in folders:
        try:
            show(f'{folder}: {_verified(folder)}')
        except BrainchopError as error:
            say(PROG, f'error: {error}')
            failed += 1
    return FAILED if failed else DONE


def _verified(folder: Path) -> str:
    """Check one model; return a line that lists the checks that it passed."""
    from ..inference.graph_test import graph_test
    from ..inference.selftest import has_tensorflow, self_test
    from ..models.fetch import verify_files
    from ..models.registry import published_models
    from ..models.spec import load_spec

    spec = load_spec(folder)
    said = [f'{spec.format}, {spec.classes} classes, {spec.parameters:,} weights']
    model = published_models().get(folder.name)
    if spec.known:
        said.append('weights as published')
    if model is not None:
        wrong = verify_files(folder, model)
        if wrong and not spec.known:
            raise ModelError(f'{wrong[0]}; fetch it again with {PROG} get {model.name}')
        said[-1:] = ['weights as published'] if wrong else ['all files as published']
    if spec.graph is not None:
        said.append(graph_test(spec, spec.graph))
    else:
        what = 'test frames' if spec.localises else 'a test volume'
        who = 'both engines compute' if has_tensorflow() else 'OpenVINO computes'
        said.append(f'{who} {what} to {self_test(spec):.1g}')
    return '; '.join(said)


def _import(arguments: argparse.Namespace) -> int:
    from ..models.convert import import_model
    from ..models.zoo import cache_folder

    made = import_model(arguments.folder, cache_folder(arguments.models_dir), arguments.name)
    show(made)
    return DONE


def _convert(arguments: argparse.Namespace) -> int:
    from ..models.convert import convert_model
    from ..models.spec import load_spec
    from ..models.zoo import find_model

    folder = find_model(arguments.model, arguments.models_dir)
    spec = load_spec(folder)
    out = arguments.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SettingsError(f'{out}: is no empty folder; give a new one')
    if arguments.format == _WEB:
        _write_site(arguments)
    else:
        convert_model(spec, arguments.format, out)
    show(out)
    return DONE


def _write_site(arguments: argparse.Namespace) -> None:
    from ..web.folder import web_models, write_site

    specs = web_models(
        [arguments.model],
        arguments.models_dir,
        report=lambda line: say(PROG, f'warning: {line}'),
    )
    write_site(arguments.out, specs)


if __name__ == '__main__':
    sys.exit(main())

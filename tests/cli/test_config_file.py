"""Config files say what the command line says, and pass its checks."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brainchop_bids.cli.run import main, parse_settings
from tests.corpus.configs import BAD_OPTIONS

POSITIONAL = ['/bids', '/out', 'participant']


@pytest.mark.parametrize('line', BAD_OPTIONS)
def test_a_bad_value_is_one_line(
    line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / 'config.toml'
    config.write_text(f'[brainchop]\n{line}\n')
    assert main([*POSITIONAL, '--config-file', str(config)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count('\n')) == ('', 1)
    assert err.startswith(f'brainchop: error: {config}: ')
    assert BAD_OPTIONS[line] in err


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        (b'[[', 'is not TOML ('),
        (b'a = ' + b'[' * 5000, 'is not TOML ('),
        (b'\xff', 'is not TOML ('),
        (b'brainchop = 3', 'expected a table [brainchop]'),
        (None, 'cannot be read (is a FIFO, not a regular file)'),
    ],
)
def test_a_file_that_is_no_config(
    content: bytes | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / 'config.toml'
    if content is None:
        os.mkfifo(config)
    else:
        config.write_bytes(content)
    assert main([*POSITIONAL, '--config-file', str(config)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f'brainchop: error: {config}: {said}')
    assert err.count('\n') == 1


def test_single_values_and_numbers(tmp_path: Path) -> None:
    config = tmp_path / 'config.toml'
    config.write_text(
        '[brainchop]\nparticipant_label = "01"\nsession_label = ["ses-A", 2]\nmodel = "a"\n'
        'subvolumes = 64\ncrop = 12\nmem = 8000\nviewer = false\n'
    )
    found = parse_settings([*POSITIONAL, '--config-file', str(config)])
    assert (found.participant_label, found.session_label) == (('01',), ('A', '2'))
    assert (found.model, found.viewer) == (('a',), False)
    assert (found.inference.subvolumes, found.inference.margin_mm) == ('64', 12)
    assert (found.memory.amount, found.memory.source) == (8, '--mem')


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        '--participant-label': st.lists(st.sampled_from(['01', 'sub-02', '3']), min_size=1),
        '--session-label': st.lists(st.sampled_from(['A', 'ses-B']), min_size=1),
        '--model': st.lists(st.sampled_from(['tissue', 'a b', '/m/"x"', 'ü']), min_size=1),
        '--normalization': st.sampled_from([['minmax'], ['quantile:0.02:0.98:clip']]),
        '--components': st.sampled_from([['none'], ['largest+open:4+min:20.5']]),
        '--subvolumes': st.sampled_from([['64'], ['64+overlap:32+vote']]),
        '--crop': st.sampled_from([['auto'], ['none'], ['4.5']]),
        '--mem': st.sampled_from([['8000'], ['1.5G']]),
        '--frame': st.integers(0, 9).map(lambda n: [str(n)]),
        '--tta': st.just([]),
        '--ct': st.just([]),
        '--no-viewer': st.just([]),
        '--probseg': st.just([]),
        '--uncertainty': st.just([]),
        '--border': st.sampled_from([['3'], ['-1.5']]),
        '--label-codes': st.just(['freesurfer']),
        '-w': st.just(['some/where']),
        '-vv': st.just([]),
    },
)


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(options=OPTIONS, level=st.sampled_from(['participant', 'group']))
def test_what_a_run_logs_repeats_it(
    options: dict[str, list[str]], level: str, tmp_path: Path
) -> None:
    words = [word for name, values in options.items() for word in (name, *values)]
    first = parse_settings(['/bids', 'out', level, *words])
    log = tmp_path / 'run.toml'
    log.write_text(first.to_toml(), encoding='utf-8')
    assert parse_settings(['--config-file', str(log)]) == first


def test_the_command_line_has_the_last_word(tmp_path: Path) -> None:
    log = tmp_path / 'run.toml'
    log.write_text(parse_settings(['/bids', '/out', 'group', '--model', 'a']).to_toml())
    for words in (
        ['/x', '/y', 'participant', '--config-file', str(log), '--model', 'b'],
        ['--config-file', str(log), '--model', 'b', '--', '/x', '/y', 'participant'],
        ['/x', '--config-file', str(log), '/y', 'participant', '--model', 'b'],
    ):
        found = parse_settings(words)
        assert (found.bids_dir, found.output_dir) == (Path('/x'), Path('/y'))
        assert (found.analysis_level, found.model) == ('participant', ('b',))
    log.write_text('[brainchop]\nbids_dir = "/bids"\n')
    with pytest.raises(SystemExit, match='2'):
        parse_settings(['--config-file', str(log)])

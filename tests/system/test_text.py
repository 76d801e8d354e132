"""Text of others does nothing to terminals and spreadsheets."""

import csv
import json
import re
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainchop_bids.cli.models import main as models
from brainchop_bids.cli.run import main as run
from brainchop_bids.models.labels import LabelTable
from brainchop_bids.models.spec import load_spec
from brainchop_bids.reports.sidecars import read_label_table
from brainchop_bids.reports.text import write_tsv
from brainchop_bids.system.errors import ModelError
from brainchop_bids.system.text import cell_text, printable, table_cell
from tests.builders import write_dataset, write_model

NASTY = 'red \x1b[31m\x9b2J\u202e'
SHOWN = r'red \x1b[31m\x9b2J\u202e'


@given(st.text())
def test_printable_text_is_one_line_without_controls(text: str) -> None:
    assert printable(text).isprintable()
    # Python's own reading of escapes, where the text has no backslashes.
    if '\\' not in text and text.isascii():
        assert printable(text).encode().decode('unicode_escape') == text


@given(st.text('=+-@\t\r\'1.5eE a"') | st.text())
def test_cells_are_harmless_and_come_back(text: str) -> None:
    cell = table_cell(text)
    assert cell_text(cell) == text
    if cell[:1] in '=+-@\t\r':
        assert not cell or float(cell) == float(text)


@pytest.mark.parametrize('number', ['-3.5', '+1', '-1e-05', '-0', '12', '-.5'])
def test_numbers_stay_numbers(number: str) -> None:
    assert table_cell(number) == number


def test_tables_of_labels_and_participants(tmp_path: Path) -> None:
    names = ['background', '=HYPERLINK("http://x")', '@SUM(1)', '-2+3', "'=1", 'plain']
    table = LabelTable.from_names(names)
    path = tmp_path / 'seg-x_dseg.tsv'
    path.write_text(table.to_tsv())
    rows = list(csv.DictReader(path.open(newline=''), delimiter='\t'))
    assert [row['name'][:2] for row in rows[1:]] == ["'=", "'@", "'-", "''", 'pl']
    found = read_label_table(path)
    assert [found[index].name for index in range(6)] == names
    text = write_tsv(['participant_id', 'age', '=note'], [['sub-01', '-3.5', '+cmd|x']])
    lines = list(csv.reader(StringIO(text), delimiter='\t'))
    assert lines == [['participant_id', 'age', "'=note"], ['sub-01', '-3.5', "'+cmd|x"]]


def test_names_of_models_are_escaped_everywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_model(tmp_path / 'mine')
    facts = {key: f'{NASTY}\n{key}' for key in ('name', 'task', 'status', 'license', 'citation')}
    labels = [{'index': 1, 'name': NASTY, 'abbreviation': 'R'}]
    (folder / 'brainchop.json').write_text(json.dumps({**facts, 'labels': labels}))
    spec = load_spec(folder)
    assert spec.name == rf'{SHOWN}\nname'
    assert spec.labels.labels[1].name == SHOWN
    assert models(['info', str(folder)]) == 0
    assert models(['list', '--models-dir', str(tmp_path)]) == 0
    bids = write_dataset(tmp_path / 'bids', ['sub-01/anat/sub-01_T1w.nii.gz'])
    out = tmp_path / 'out \x1b]0;title\x07'
    work = ['--model', str(folder), '-w', str(tmp_path / 'work'), '--skip-bids-validation']
    assert run([str(bids), str(out), 'participant', '--boilerplate-only', *work]) == 0
    said = capsys.readouterr()
    assert rf'{SHOWN}\nstatus' in said.out
    assert r'out \x1b]0;title\x07' in said.out
    written = [' '.join(path.read_text().split()) for path in (out / 'logs').iterdir()]
    assert any(rf'{SHOWN}\nname' in text for text in written)
    for text in (said.out, said.err, *written):
        assert not re.search('[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]', text)


def test_messages_are_short_lines_without_controls() -> None:
    message = str(ModelError(f'{NASTY}\n{"x" * 10_000_000}; write it again'))
    assert message.startswith(SHOWN)
    assert message.endswith('; write it again')
    assert message.isprintable()
    assert len(message) < 5000

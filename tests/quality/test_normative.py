"""Volumes of labels against normative ranges."""

import csv
import importlib.util
from pathlib import Path

import pytest

from brainchop_bids.quality.normative import LabelRow, check_volumes

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / 'brainchop_bids' / 'data' / 'label_shares.tsv'


def marks(*rows: LabelRow, brain: float | None = 1.2e6) -> dict[int, str]:
    return {index: mark for index, (mark, _) in check_volumes(rows, brain).items()}


def test_volumes_that_freesurfer_found(shared: Path) -> None:
    """``aseg.stats`` of a child of ten: all that has a reference is plausible."""
    lines = (shared / 'data/t1w/fnndsc-10yr-trio/aseg.stats').read_text().splitlines()
    table = [line.split() for line in lines if line and not line.startswith('#')]
    rows = [LabelRow(int(row[1]), row[4], float(row[3]), freesurfer=int(row[1])) for row in table]
    [brain] = [
        float(line.split(',')[3]) for line in lines if line.startswith('# Measure BrainSeg,')
    ]
    found = marks(*rows, brain=brain)
    compared = [index for index, mark in found.items() if mark]
    assert len(compared) > 20
    assert {found[index] for index in compared} == {'ok'}


def test_structures_by_code_and_by_name() -> None:
    rows = [
        LabelRow(1, 'Left-Hippocampus', 4000.0, freesurfer=17),
        LabelRow(2, 'Right-Hippocampus', 3900.0, freesurfer=53),
        LabelRow(3, 'Brain-Stem', 300.0, freesurfer=16),
        LabelRow(4, 'Thalamus', 60_000.0),
        LabelRow(5, 'something else', 9.0),
        LabelRow(6, 'Caudate', None),
    ]
    assert marks(*rows) == {1: 'ok', 2: 'ok', 3: 'low', 4: 'high', 5: '', 6: ''}
    found = check_volumes(rows, 1.2e6)
    assert found[3][1] == '0.025% of the brain; the limits are 0.824% and 4.59%.'
    assert found[5] == ('', '')


def test_grey_and_white_matter_and_fluid() -> None:
    def three(grey: float, white: float, fluid: float) -> dict[int, str]:
        rows = [LabelRow(1, 'g', grey, mapping=1), LabelRow(2, 'w', white, mapping=2)]
        return marks(*rows, LabelRow(3, 'f', fluid, mapping=3))

    assert three(7e5, 5e5, 3e5) == {1: 'ok', 2: 'ok', 3: 'ok'}
    assert three(9e5, 2e5, 3e5) == {1: 'high', 2: 'low', 3: 'ok'}
    assert three(2e5, 9e5, 1e4) == {1: 'low', 2: 'high', 3: 'low'}
    # One of many labels of grey matter is not all of it.
    several = [LabelRow(n, f'part {n}', 1e4, mapping=1) for n in (1, 2)]
    assert marks(*several, LabelRow(3, 'w', 5e5, mapping=2)) == {1: '', 2: '', 3: 'high'}
    assert marks(LabelRow(1, 'brain', 1e6)) == {1: ''}


def test_sides_that_differ() -> None:
    def pair(left: float, right: float, name: str, code: int, other: int) -> dict[int, str]:
        return marks(
            LabelRow(1, f'Left-{name}', left, freesurfer=code),
            LabelRow(2, f'Right-{name}', right, freesurfer=other),
        )

    assert pair(2000, 4200, 'Hippocampus', 17, 53) == {1: 'low', 2: 'ok'}
    assert pair(2200, 4200, 'Hippocampus', 17, 53) == {1: 'ok', 2: 'ok'}
    assert pair(20_000, 6000, 'Lateral-Ventricle', 4, 43) == {1: 'ok', 2: 'ok'}
    rows = [LabelRow(1, 'ctx-lh-insula', 0.0), LabelRow(2, 'ctx-rh-insula', 5000.0)]
    assert check_volumes(rows, 1e6)[1] == (
        'low',
        'This label is empty, ctx-rh-insula is not.',
    )


@pytest.mark.parametrize('brain', [None, 0.0])
def test_without_a_mask_the_labels_are_the_brain(brain: float | None) -> None:
    rows = [LabelRow(1, 'Hippocampus', 6e3), LabelRow(2, 'rest', 1e6)]
    assert marks(*rows, brain=brain)[1] == 'ok'
    assert check_volumes([], brain) == {}
    assert marks(LabelRow(1, 'Hippocampus', 0.0), brain=brain) == {1: ''}


def test_the_table_is_what_the_recipe_makes(
    shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location('recipe', ROOT / 'recipes' / 'label_shares.py')
    assert spec is not None
    assert spec.loader is not None
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    recipe.main(shared / 'data' / 'label_maps' / 'synthseg-20')
    assert capsys.readouterr().out == TABLE.read_text()
    rows = list(csv.reader(TABLE.read_text().splitlines()[3:], delimiter='\t'))
    assert rows[0] == ['freesurfer', 'mapping', 'name', 'lowest', 'highest']
    assert all(0 < float(row[3]) < float(row[4]) < 1 for row in rows[1:])

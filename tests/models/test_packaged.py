"""The packaged model: small, whole, what its card says, and good enough to be used."""

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

from brainchop_bids.cli.run import main
from brainchop_bids.evaluation.metrics import agreement
from brainchop_bids.evaluation.pairs import Pair, load_pair
from brainchop_bids.models import DEFAULT_MODEL
from brainchop_bids.models.mapping import read_mapping
from brainchop_bids.models.spec import load_spec
from brainchop_bids.models.zoo import find_model
from brainchop_bids.training.config import read_config
from tests.make_demo import make_demo


def test_it_is_small_and_says_what_it_is() -> None:
    folder = find_model(DEFAULT_MODEL)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1e6
    spec = load_spec(folder)
    assert (spec.name, spec.slug, spec.license) == ('tissue', 'tissue', 'Apache-2.0')
    assert [label.abbreviation for label in spec.labels] == ['BG', 'GM', 'WM', 'CSF']
    assert [label.mapping for label in spec.labels] == [0, 1, 2, 3]
    assert not spec.warnings
    card = (folder / 'README.md').read_text()
    assert '| scan |' in card


def test_its_recipe_is_the_one_that_is_committed() -> None:
    recipe = Path(__file__).parents[2] / 'recipes' / 'tissue.toml'
    packaged = read_config(find_model(DEFAULT_MODEL) / 'training.toml')
    assert packaged == read_config(recipe)
    log = (find_model(DEFAULT_MODEL) / 'log.csv').read_text().splitlines()
    assert int(log[-1].split(',')[1]) == packaged.steps


def test_the_app_runs_it_where_no_model_is_named(tmp_path: Path) -> None:
    make_demo(tmp_path / 'bids')
    arguments = [str(tmp_path / 'bids'), str(tmp_path / 'out'), 'participant']
    done = subprocess.run(
        [sys.executable, '-m', 'brainchop_bids.cli.run', *arguments, '-w', str(tmp_path / 'work')],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    stem = tmp_path / 'out' / 'sub-MNI152' / 'anat' / 'sub-MNI152'
    labels = np.asarray(nib.load(f'{stem}_seg-tissue_dseg.nii.gz').dataobj)
    mask = np.asarray(nib.load(f'{stem}_desc-brain_mask.nii.gz').dataobj).astype(bool)
    scan = np.asarray(nib.load(f'{tmp_path}/bids/sub-MNI152/anat/sub-MNI152_T1w.nii.gz').dataobj)
    # nilearn's template has no skull: all that is bright is brain.
    head = scan > 0.2 * scan.max()
    assert agreement(mask, head, (1, 1, 1), surfaces=False).dice > 0.9
    means = [scan[labels == i].mean() for i in (3, 1, 2)]
    assert means == sorted(means)
    assert main([*arguments, '-w', str(tmp_path / 'work'), '--dry-run']) == 0


def test_it_agrees_with_freesurfer(shared: Path, tmp_path: Path) -> None:
    folder = shared / 'data' / 't1w' / 'voxelmorph-test-scan'
    out = tmp_path / 'labels.nii.gz'
    subprocess.run(
        [sys.executable, '-m', 'brainchop_bids.cli.segment', folder / 'vol.nii.gz', out],
        check=True,
    )
    pair = load_pair(
        Pair('scan', out, folder / 'seg.nii.gz'), None, read_mapping('aseg_to_tissue')
    )
    dice = [
        agreement(pair.predicted == i, pair.reference == i, pair.zooms, surfaces=False).dice
        for i in (1, 2)
    ]
    # What its card says is more; a retrained model must not fall behind this.
    assert np.mean(dice) > 0.8

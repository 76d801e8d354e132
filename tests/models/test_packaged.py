"""The packaged models: small, whole, what their cards say, and good enough to be used."""

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainchop_bids.cli.run import main
from brainchop_bids.evaluation.metrics import agreement
from brainchop_bids.evaluation.pairs import align
from brainchop_bids.image.io import read_volume
from brainchop_bids.models.formats import read_network
from brainchop_bids.models.mapping import read_mapping
from brainchop_bids.models.spec import load_spec
from brainchop_bids.models.zoo import find_model, search_folders
from brainchop_bids.training.config import read_training_config
from tests.builders import DEMO


@pytest.mark.parametrize('name', ['tissue', 'subcortical', 'aseg'])
def test_it_is_small_and_says_what_it_is(name: str) -> None:
    folder = find_model(name)
    assert folder.parent == search_folders()[0]
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1e6
    spec = load_spec(folder)
    assert (spec.name, spec.slug, spec.license) == (name, name, 'Apache-2.0')
    assert not spec.warnings
    # Whoever knows no FreeSurfer still sees what is grey, white and fluid.
    assert {label.mapping for label in spec.labels} >= {0, 1, 2, 3}
    card = (folder / 'README.md').read_text()
    assert '## Known faults' in card
    assert f'Status: **{spec.status}**.' in card


@pytest.mark.parametrize('name', ['tissue', 'subcortical', 'aseg'])
def test_its_labels_are_those_of_its_training(name: str) -> None:
    spec = load_spec(find_model(name))
    mapping = read_mapping(f'aseg_to_{name}')
    names = [label.abbreviation if name == 'tissue' else label.name for label in spec.labels]
    assert names == [mapping.labels[index] for index in range(mapping.classes)]


@pytest.mark.parametrize('name', ['tissue', 'subcortical', 'aseg', 'locate-brain'])
def test_its_recipe_is_the_one_that_is_committed(name: str) -> None:
    recipe = Path(__file__).parents[2] / 'recipes' / f'{name}.toml'
    packaged = read_training_config(find_model(name) / 'training.toml')
    assert packaged == read_training_config(recipe)
    log = (find_model(name) / 'log.csv').read_text().splitlines()
    assert int(log[-1].split(',')[1]) == packaged.steps


def test_the_localiser_is_small() -> None:
    folder = find_model('locate-brain')
    network = read_network(folder)[0]
    assert sum(w.size for op in network.ops for w in op.weights.values()) <= 50_000
    names = ('model.json', 'group1-shard1of1.bin')
    assert sum((folder / name).stat().st_size for name in names) <= 210_000
    spec = load_spec(folder)
    assert spec.localises
    assert f'Status: **{spec.status}**.' in (folder / 'README.md').read_text()
    for name in ('tissue', 'subcortical', 'aseg'):
        assert load_spec(find_model(name)).localiser == 'locate-brain'


def test_18_structures_are_those_of_upstreams_model(shared: Path) -> None:
    ours = load_spec(find_model('subcortical'))
    theirs = load_spec(shared / 'models' / 'brainchop' / 'model30chan18cls')
    assert [label.name for label in ours.labels] == [label.name for label in theirs.labels]


# What lies at some places of the demonstration scan, in mm, as read from the scan itself.
BACKGROUND, GREY, WHITE, FLUID = range(4)
LANDMARKS = {
    'pons': (WHITE, (4, -15, -30)),
    'splenium': (WHITE, (2, -33, 10)),
    'left temporal white matter': (WHITE, (-36, 6, -22)),
    'right temporal white matter': (WHITE, (40, 6, -22)),
    'left temporal pole': (GREY, (-38, 14, -27)),
    'right temporal pole': (GREY, (42, 14, -27)),
    'left cerebellar white matter': (WHITE, (-22, -40, -45)),
    'right cerebellar white matter': (WHITE, (30, -40, -45)),
    'left thalamus': (GREY, (-8, -12, 10)),
    'right thalamus': (GREY, (12, -12, 10)),
    'left lateral ventricle': (FLUID, (-2, 0, 20)),
    'right lateral ventricle': (FLUID, (8, 0, 20)),
    'fourth ventricle': (FLUID, (2, -28, -30)),
    'right eye': (BACKGROUND, (28, 58, -10)),
    'back of the head': (BACKGROUND, (0, -97, 0)),
}


def test_the_demo_is_labelled_right_where_no_model_is_named(tmp_path: Path) -> None:
    arguments = [str(DEMO), str(tmp_path / 'out'), 'participant', '-w', str(tmp_path / 'work')]
    done = subprocess.run(
        [sys.executable, '-m', 'brainchop_bids.cli.run', *arguments],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    stem = tmp_path / 'out' / 'sub-06' / 'anat' / 'sub-06'
    image = nib.load(f'{stem}_seg-tissue_dseg.nii.gz')
    labels = np.asarray(image.dataobj)
    millimetres = np.array([place for _, place in LANDMARKS.values()])
    voxels = np.rint(nib.affines.apply_affine(np.linalg.inv(image.affine), millimetres))
    found = labels[tuple(voxels.astype(int).T)].tolist()
    assert dict(zip(LANDMARKS, found, strict=True)) == {
        name: label for name, (label, _) in LANDMARKS.items()
    }
    mask = np.asarray(nib.load(f'{stem}_desc-brain_mask.nii.gz').dataobj)
    assert mask[tuple(voxels.astype(int).T)].tolist() == [int(label > 0) for label in found]
    scan = np.asarray(nib.load(DEMO / 'sub-06/anat/sub-06_T1w.nii.gz').dataobj)
    means = [scan[labels == i].mean() for i in (FLUID, GREY, WHITE)]
    assert means == sorted(means)
    facts = json.loads(Path(f'{stem}_seg-tissue_dseg.json').read_text())
    assert facts['Flags'] == []
    assert main([*arguments, '--dry-run']) == 0


@pytest.mark.parametrize(
    ('name', 'least'), [('tissue', 0.8), ('subcortical', 0.75), ('aseg', 0.75)]
)
def test_it_agrees_with_freesurfer(shared: Path, tmp_path: Path, name: str, least: float) -> None:
    folder = shared / 'data' / 't1w' / 'voxelmorph-test-scan'
    out = tmp_path / 'labels.nii.gz'
    command = [sys.executable, '-m', 'brainchop_bids.cli.segment', '--model', name]
    subprocess.run([*command, folder / 'vol.nii.gz', out], check=True)
    mapping = read_mapping(f'aseg_to_{name}')
    pair = align(read_volume(out), read_volume(folder / 'seg.nii.gz'), None, mapping)
    dice = [
        agreement(pair.predicted == i, pair.reference == i, pair.zooms, surfaces=False).dice
        # This scan has no skull, and aseg no fluid around the brain.
        for i in ((1, 2) if name == 'tissue' else range(1, mapping.classes))
    ]
    # What its card says is more; a retrained model must not fall behind this.
    assert np.mean(dice) > least

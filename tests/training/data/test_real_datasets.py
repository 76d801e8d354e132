"""Two architectures and two losses on real heads: validation rises, and a kill changes nothing."""

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from brainchop_bids.models.mapping import read_mapping
from brainchop_bids.training.checkpoints import list_states
from tests.training.runs import kill_after, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

CONFIG = """
seed = 2
workers = 1
checkpoint_every = 40
validation_cubes = 2
[data]
table = "{table}"
mapping = "{mapping}"
hold_out = ["06", "voxelmorph"]
cache = "{cache}"
[model]
architecture = "{architecture}"
channels = 8
levels = 3
dilations = [1, 2, 4, 8, 4, 2, 1]
[loss]
kind = "{loss}"
[validation]
every = 40
[card]
name = "lab"
[[stages]]
steps = 160
cube = 64
learning_rate = {rate}
cubes_per_volume = 8
"""


@pytest.fixture(scope='module')
def place(shared: Path, real_derivatives: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a table of ds000011's heads with our labels, and one with FreeSurfer's."""
    folder = tmp_path_factory.mktemp('lab')
    rows = ['subject\tT1w\tlabels']
    for label in ('01', '02', '03', '04', '06'):
        scan = shared / 'data' / 'ds000011' / f'sub-{label}' / 'anat' / f'sub-{label}_T1w.nii.gz'
        seg = real_derivatives / f'sub-{label}' / 'anat' / f'sub-{label}_seg-tissue_dseg.nii.gz'
        rows.append(f'{label}\t{scan}\t{seg}')
    other = shared / 'data' / 't1w' / 'voxelmorph-test-scan'
    aseg = nib.load(other / 'seg.nii.gz')
    codes = np.asarray(aseg.dataobj).astype(np.uint16)
    tissue = read_mapping('aseg_to_tissue').apply(codes)
    nib.Nifti1Image(tissue, aseg.affine).to_filename(folder / 'tissue.nii.gz')
    rows.append(f'voxelmorph\t{other / "vol.nii.gz"}\t{folder / "tissue.nii.gz"}')
    (folder / 'scans.tsv').write_text('\n'.join(rows) + '\n')
    return folder


def write_config(place: Path, real_derivatives: Path, architecture: str, loss: str) -> Path:
    path = place / f'{architecture}.toml'
    path.write_text(
        CONFIG.format(
            table=place / 'scans.tsv',
            mapping=real_derivatives / 'seg-tissue_dseg.tsv',
            cache=place / 'cache',
            architecture=architecture,
            loss=loss,
            rate=5e-3 if architecture == 'meshnet' else 1e-3,
        )
    )
    return path


@pytest.mark.parametrize(
    ('architecture', 'loss'), [('meshnet', 'dice_cross_entropy'), ('unet', 'focal_tversky')]
)
def test_validation_rises_and_a_kill_changes_nothing(
    place: Path, real_derivatives: Path, architecture: str, loss: str
) -> None:
    config, whole = write_config(place, real_derivatives, architecture, loss), place / architecture
    done = run(config, whole)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    with (whole / 'validation.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert {row['scan'] for row in rows} == {'sub-06', 'sub-voxelmorph'}
    course = [
        float(np.mean([float(row['dice']) for row in rows if row['step'] == step]))
        for step in ('40', '80', '120', '160')
    ]
    # So few steps are no training, but they lead somewhere.
    assert course[-1] > course[0] + 0.05
    assert course[-1] > 0.4
    events = EventAccumulator(str(whole / 'tensorboard'))
    events.Reload()
    assert {'loss', 'validation/dice', 'validation/dice/1'} <= set(events.Tags()['scalars'])
    assert {'validation/best', 'validation/worst'} <= set(events.Tags()['images'])

    out = place / f'{architecture}-killed'
    kill_after(2, config, out)
    assert len(list_states(out / 'checkpoints')) == 2
    again = run(config, out)
    assert again.returncode == 0, again.stderr
    assert 'resuming at step' in again.stdout
    for name in ('log.csv', 'validation.csv', 'lab/group1-shard1of1.bin'):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name

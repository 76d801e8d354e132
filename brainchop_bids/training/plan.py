"""A training config written from the data: what nobody should have to pick by hand.

As nnU-Net's fingerprint (Isensee et al. 2021, https://doi.org/10.1038/s41592-020-01008-z), voxel
sizes, the extent of the labels, the classes and the memory decide; the rules are this package's.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..models.mapping import LabelMapping
from ..models.spec import MODEL_NAME
from ..system.atomic import write_text
from ..system.errors import OutputError
from .config import read_training_config
from .data.fingerprint import Fingerprint, find_source, take_fingerprint
from .options import DataOptions

# Float32 values that training keeps for each value of a layer: itself, after the activation, and
# its gradient.
_KEPT = 3
_HIDDEN = 9
_SIDES = (128, 112, 96, 80, 64, 48, 32)
# Ratio of the most to the least frequent label above which classes are weighted.
_UNEVEN = 30
_SOURCE_KEYS = (
    'label_maps', 'table', 'bids', 'derivatives', 'segmentation', 'folder', 'layout', 'cache',
)  # fmt: skip
_TEMPLATE = """\
# Written by brainchop-train --plan: {subjects} participants, {scans} scans.
# Voxels of {zooms} mm; all scans are conformed to 1 mm.
# Labels take up to {extent} mm (left-right, head-foot, back-front).
# To be trained on a {device} with {memory} of free memory.
seed = 0
# The faster of float32 and bfloat16 on the machine.
precision = "auto"
checkpoint_every = 100
validation_cubes = 4

[data]
{source}
channels = {inputs}
{split}
# Labels by this table, with their shares of the voxels: {shares}.{absent}
mapping = {mapping}
normalization = "quantile:0.02:0.98"

[model]
architecture = "meshnet"
channels = {channels}

[loss]
kind = "dice_cross_entropy"
{weights}

[augmentation]
{flip}

[validation]
# Steps between scores of whole held-out scans, at most five.
every = {every}
volumes = 5

[card]
name = {name}

# Small patches first, for many steps in little time.
[[stages]]
steps = {first_steps}
cube = {first_cube}
batch = {batch}
learning_rate = 0.003
weighted = {weighted}

# Then the largest of which a batch takes half of the memory.
[[stages]]
steps = {last_steps}
cube = {last_cube}
batch = {batch}
learning_rate = 0.001
weighted = false
"""
_WEIGHTED = """\
# The smallest label has less than 1/30 of the voxels of the largest: classes are weighted, in the
# first stage only, since this makes small structures too large.
class_weights = {weights}"""
_UNWEIGHTED = '# Labels are about equally frequent: no class_weights.'
_FLIPPED = '# Scans are mirrored, with left and right labels exchanged.\nflip = 0.5'
_NOT_FLIPPED = '# Labels without names may have sides: scans are not mirrored.\nflip = 0.0'


@dataclass(frozen=True)
class Machine:
    """What a training may use.

    Parameters
    ----------
    device : str
        ``'GPU'`` or ``'CPU'``.
    memory : float
        Free memory, bytes.
    """

    device: str
    memory: float


@dataclass(frozen=True)
class Sizes:
    """Size of network and patches.

    Parameters
    ----------
    channels, batch : int
        See `NetworkOptions` and `Stage`.
    cube : tuple of 3 int
        Sides of the patches of the last stage.
    """

    channels: int
    batch: int
    cube: tuple[int, int, int]


def write_plan(
    dataset: Path, target: Path, changes: Sequence[str], machine: Machine
) -> list[Path]:
    """Write a commented training config for a dataset.

    Parameters
    ----------
    dataset : Path
        BIDS dataset with label images in ``derivatives``, table of files, folder of a public
        dataset, or folder of label maps.
    target : Path
        The config to write, which must not exist.
    changes : sequence of str
        ``data.KEY=VALUE``, such as the derivatives or the mapping to use.
    machine : Machine
        Where it will be trained.

    Returns
    -------
    list of Path
        The config, and the table of labels if no packaged one has the codes of the data.

    Raises
    ------
    DatasetError, SettingsError
        If the dataset is none of these, or a change is of another table.
    InputError, ModelError
        If a label map cannot be read, or has codes that ``data.mapping`` lacks.
    OutputError
        If a file is there already or cannot be written.
    """
    labels = target.with_name(f'{target.stem}_labels.tsv')
    for path in (target, labels):
        if path.exists():
            raise OutputError(f'{path}: is there already; give another CONFIG.toml, or remove it')
    data = find_source(dataset, changes)
    found = take_fingerprint(data)
    written = [target]
    table = found.mapping
    if table is None:
        written.append(labels)
        write_text(labels, _own_table(found))
        table = LabelMapping(
            str(labels.absolute()), {code: i for i, code in enumerate(found.codes)}
        )
    sizes = choose_sizes(found, table.classes, machine)
    write_text(target, _config(target, data, found, table, sizes, machine))
    # What was written must be what a training reads.
    read_training_config(target)
    return written


def choose_sizes(found: Fingerprint, classes: int, machine: Machine) -> Sizes:
    """Choose the largest patches that fit into half of the memory, and the width of the network.

    Parameters
    ----------
    found : Fingerprint
        The data.
    classes : int
        Number of classes.
    machine : Machine
        Its memory.

    Returns
    -------
    Sizes
    """
    gpu = machine.device == 'GPU'
    channels = 32 if gpu else 16
    bytes_each = 4 * (_KEPT * channels * _HIDDEN + 4 * classes)
    # A CPU takes minutes for a step on larger patches.
    for most in _SIDES if gpu else _SIDES[2:]:
        x, y, z = (min(most, max(32, -(-round(side) // 16) * 16)) for side in found.extent)
        each = bytes_each * x * y * z
        if 2 * each <= machine.memory or most == _SIDES[-1]:
            break
    batch = min(4, max(1, int(machine.memory / 2 / each))) if gpu else 1
    return Sizes(channels, batch, (x, y, z))


def class_weights(shares: Sequence[float]) -> list[float]:
    """Return weights of classes, or none if they are about equally frequent.

    Parameters
    ----------
    shares : sequence of float
        Share of the voxels of each class, the background first.

    Returns
    -------
    list of float
        Inverse square roots of the shares, of mean 1; empty if none is 30 times as frequent as
        another, background aside.

    Examples
    --------
    >>> class_weights([0.9, 0.05, 0.05]), class_weights([0.9, 0.0999, 0.0001])
    ([], [0.03, 0.09, 2.88])
    """
    present = [share for share in shares[1:] if share > 0]
    if not present or max(present) < _UNEVEN * min(present):
        return []
    least = min(share for share in shares if share > 0)
    roots = [max(share, least) ** -0.5 for share in shares]
    return [round(len(roots) * root / sum(roots), 2) for root in roots]


def _own_table(found: Fingerprint) -> str:
    rows = [f'{code}\t{i}\t{found.names.get(code, code)}' for i, code in enumerate(found.codes)]
    return '\n'.join(['code\tindex\tlabel', *rows]) + '\n'


def _config(
    target: Path,
    data: DataOptions,
    found: Fingerprint,
    table: LabelMapping,
    sizes: Sizes,
    machine: Machine,
) -> str:
    shares = found.shares(table)
    weights = class_weights(shares)
    steps = min(20_000 if machine.device == 'GPU' else 6_000, 2_000 + 100 * found.scans)
    name = re.sub(r'[^A-Za-z0-9_-]', '-', target.stem)
    split = _split(found)
    sources = [(key, getattr(data, key)) for key in _SOURCE_KEYS]
    named = (f'{table.labels.get(i, str(i))} {share:.3%}' for i, share in enumerate(shares) if i)
    return _TEMPLATE.format(
        subjects=found.subjects,
        scans=found.scans,
        zooms=_range(found.zooms),
        extent=' x '.join(f'{side:.0f}' for side in found.extent),
        device=machine.device,
        memory=f'{machine.memory / 1e9:.3g} GB',
        source='\n'.join(f'{key} = {json.dumps(value)}' for key, value in sources if value),
        inputs=json.dumps(list(data.channels)),
        split=split,
        shares=', '.join(named),
        absent=''.join(
            f'\n# No label map that was read has {one}.' for one in found.absent(table)
        ),
        mapping=json.dumps(table.name),
        channels=sizes.channels,
        weights=_WEIGHTED.format(weights=json.dumps(weights)) if weights else _UNWEIGHTED,
        weighted=json.dumps(bool(weights)),
        flip=_FLIPPED if found.mapping is not None or found.names else _NOT_FLIPPED,
        every=500 if found.marked or found.subjects > 1 else 0,
        name=json.dumps(name if MODEL_NAME.fullmatch(name) else f'm{name}'),
        batch=sizes.batch,
        first_steps=steps // 2,
        last_steps=steps - steps // 2,
        first_cube=_cube([min(side, 64) for side in sizes.cube]),
        last_cube=_cube(sizes.cube),
    )


def _split(found: Fingerprint) -> str:
    """Return the lines on the split, with its reason."""
    if found.marked:
        return '# The table says what is held out, in its column split.'
    if found.subjects < 2:
        return '# Nothing is held out: there is one participant only.'
    if found.subjects < 5 or found.synthetic:
        return '# A fifth is held out, drawn by the seed.\nsplit = 0.8'
    return (
        '# A fifth of the participants is held out; --cross-validate trains on all five folds.\n'
        'folds = 5\nfold = 0'
    )


def _range(zooms: Sequence[tuple[float, float, float]]) -> str:
    axes = zip(*zooms, strict=True)
    return ' x '.join(
        f'{min(axis):.3g}' + (f'-{max(axis):.3g}' if max(axis) - min(axis) > 0.005 else '')
        for axis in map(list, axes)
    )


def _cube(sides: Sequence[int]) -> str:
    return json.dumps(sides[0] if len(set(sides)) == 1 else list(sides))


def read_machine() -> Machine:
    """Return what this machine has: its first GPU by ``nvidia-smi``, or the memory of the CPU."""
    import shutil
    import subprocess

    from ..system.resources import available_memory

    if shutil.which('nvidia-smi'):
        query = ['nvidia-smi', '--query-gpu=memory.free', '--format=csv,noheader,nounits']
        result = subprocess.run(  # noqa: S603, our own command
            query, capture_output=True, text=True, timeout=60
        )
        first = (result.stdout.split() or [''])[0]
        if result.returncode == 0 and first.isdigit():
            return Machine('GPU', int(first) * 2.0**20)
    return Machine('CPU', available_memory().amount * 1e9)

"""Score a localiser on whole heads, on synthetic heads with bodies, and in all orientations.

    python benchmarks/localise_heads.py SHARED OUT [--model locate-brain] [--heads 4] [--quick]

The box is right if the brain is inside it, with at most 10 mm too much on each side. Brains of
real scans are the masks that ``brainchop-segment --model aseg --mask`` writes, or where there
are expert labels (voxelmorph's scan) those without fluid around the brain; those of synthetic
heads are known. Each real head is also cropped, padded with 150 mm of noise on all
sides, turned by 30 degrees, averaged to slices of 5 mm, and inverted within the head, as
T2-weighted scans look; and stored in all 24 orientations that can be told apart.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from brainchop_bids.cli.segment import main as segment
from brainchop_bids.image.background import void_value
from brainchop_bids.image.geometry import Geometry
from brainchop_bids.image.io import load_labels, read_volume
from brainchop_bids.image.lookup import lookup
from brainchop_bids.inference.localise.frames import shrink
from brainchop_bids.inference.localise.localiser import Localiser, Located
from brainchop_bids.models.spec import load_spec
from brainchop_bids.models.zoo import find_model
from brainchop_bids.system.resources import available_cpus
from brainchop_bids.training.augment.frames import Body, look_up
from brainchop_bids.training.augment.scene import draw_contrast
from brainchop_bids.training.augment.tissues import AROUND_BRAIN, t1_prior
from brainchop_bids.training.data.label_maps import Atlas
from brainchop_bids.training.data.sources import load_atlas
from brainchop_bids.training.options import SynthesisOptions

# Most that the box may be too large on a side, mm.
TOO_MUCH = 10.0
HELD_OUT = range(16, 21)


@dataclass(frozen=True)
class Head:
    """A scan with its brain."""

    name: str
    data: np.ndarray
    brain: np.ndarray
    vox2ras: np.ndarray

    @property
    def geometry(self) -> Geometry:
        """Grid of the scan."""
        return Geometry.from_affine(self.vox2ras, self.data.shape)


def main() -> None:
    """Print a table for each part."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('shared', type=Path, help='the folder of scans')
    parser.add_argument('out', type=Path, help='for masks that are made')
    parser.add_argument('--model', default='locate-brain', help='name or folder of a model')
    parser.add_argument('--heads', type=int, default=4, help='synthetic heads from each map')
    parser.add_argument('--quick', action='store_true', help='only the scans as they are')
    parser.add_argument('--threads', type=int, default=int(available_cpus().amount))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    localiser = Localiser.of(load_spec(find_model(arguments.model)), arguments.threads)
    heads = list(real_heads(arguments.shared / 'data', arguments.out))
    rng = np.random.default_rng(0)
    changes: dict[str, Callable[[Head], Head]] = {'as it is': lambda head: head}
    if not arguments.quick:
        changes |= {
            'cropped': lambda head: cropped(head, rng),
            'padded': lambda head: padded(head, rng),
            'turned': lambda head: turned(head, rng),
            'slices of 5 mm': thick,
            'T2w-like': inverted,
        }
    total = Score()
    for name, change in changes.items():
        score = Score()
        for head in heads:
            score.add(change(head), localiser)
        print(f'real heads, {name}: {score}', flush=True)
        total.merge(score)
    print(f'real heads: {total}')
    if arguments.quick:
        return
    score = Score()
    for head in synthetic_heads(arguments.shared / 'data', arguments.heads, rng):
        score.add(head, localiser)
    print(f'synthetic heads with bodies: {score}')
    print(f'orientations: {orientations(heads, localiser)}')
    print(f'speed: {speed(localiser)}')


class Score:
    """Boxes that are right, and why others are not."""

    def __init__(self) -> None:
        self.right: list[bool] = []
        self.inside: list[bool] = []
        self.oriented: list[bool] = []
        self.seconds: list[float] = []
        self.notes: list[str] = []

    def add(self, head: Head, localiser: Localiser) -> None:
        """Find the brain of a head."""
        began = time.perf_counter()
        located = localiser(head.data, head.geometry)
        self.seconds.append(time.perf_counter() - began)
        more = excess(head, located)
        self.inside.append(more is not None and bool((more >= 0).all()))
        self.right.append(self.inside[-1] and more is not None and bool(more.max() <= TOO_MUCH))
        self.oriented.append(located.codes == located.header_codes)
        if not self.right[-1]:
            what = 'not found' if more is None else ' '.join(f'{side:+.0f}' for side in more)
            self.notes.append(f'{head.name}: {what}')

    def merge(self, other: 'Score') -> None:
        """Add the cases of another score."""
        self.right += other.right
        self.inside += other.inside
        self.oriented += other.oriented
        self.seconds += other.seconds

    def __str__(self) -> str:
        text = (
            f'{sum(self.right)} of {len(self.right)} boxes right, the brain inside '
            f'{sum(self.inside)}, orientation {sum(self.oriented)}, '
            f'{np.median(self.seconds):.2f} s'
        )
        return '\n    '.join([text, *self.notes])


def excess(head: Head, located: Located) -> np.ndarray | None:
    """Return how much too large the box is on each side, mm, (6,); None if nothing was found."""
    if located.sector is None:
        return None
    sides = []
    for axis, extent in enumerate(located.sector.extents):
        others = tuple(n for n in range(3) if n != axis)
        places = np.flatnonzero(head.brain.any(others))
        zoom = head.geometry.zooms[axis]
        sides += [(places[0] - extent.first) * zoom, (extent.last - places[-1]) * zoom]
    return np.array(sides)


def real_heads(data: Path, out: Path) -> Iterator[Head]:
    """Read the scans, and make their masks once."""
    t1w = data / 't1w'
    paths = [
        *sorted(data.glob('ds000011/*/anat/*.nii.gz')),
        data / 'pumi-minitest/sub-001/anat/sub-001_T1w.nii.gz',
        *(
            t1w / f'{name}/T1w.nii.gz'
            for name in ('studyforrest-philips-dicom', 'fnndsc-10yr-trio')
        ),
        t1w / 'voxelmorph-test-scan/vol.nii.gz',
        t1w / 'brainchop_t1_crop.nii.gz',
        data / 't2w/T2w.nii.gz',
    ]
    for path in paths:
        name = f'{path.parent.parent.name}-{path.parent.name}-{path.name}'
        mask, expert = out / name, path.with_name('seg.nii.gz')
        if expert.exists():
            codes = load_labels(expert)[0]
            brain = (codes > 0) & (codes != AROUND_BRAIN)
        else:
            if not mask.exists():
                arguments = [str(path), str(out / 'labels.nii.gz'), '--mask', str(mask)]
                if segment([*arguments, '--model', 'aseg']):
                    raise SystemExit(f'{path}: cannot be segmented')
            brain = load_labels(mask)[0] > 0
        volume = read_volume(path)
        yield Head(name, volume.data, brain, volume.geometry.vox2ras)


def cropped(head: Head, rng: np.random.Generator) -> Head:
    """Cut a field of view that ends up to 20 mm beyond the brain on each side."""
    sides, zooms = [], head.geometry.zooms
    for axis in range(3):
        places = np.flatnonzero(head.brain.any(tuple(n for n in range(3) if n != axis)))
        low, high = (int(rng.uniform(2, 20) / zooms[axis]) for _ in range(2))
        sides.append(slice(max(0, places[0] - low), places[-1] + 1 + high))
    box = tuple(sides)
    moved = head.vox2ras.copy()
    moved[:3, 3] += moved[:3, :3] @ [side.start for side in sides]
    return Head(head.name, head.data[box], head.brain[box], moved)


def padded(head: Head, rng: np.random.Generator) -> Head:
    """Add 150 mm of noise on all sides."""
    widths = [(round(150 / zoom),) * 2 for zoom in head.geometry.zooms]
    data = np.pad(head.data.astype(np.float32), widths)
    level = 0.1 * float(np.quantile(head.data, 0.99))
    added = np.pad(np.zeros(head.data.shape, bool), widths, constant_values=True)
    data[added] = np.abs(rng.normal(0, level, int(added.sum())))
    moved = head.vox2ras.copy()
    moved[:3, 3] -= moved[:3, :3] @ [low for low, _ in widths]
    return Head(head.name, data, np.pad(head.brain, widths), moved)


def turned(head: Head, rng: np.random.Generator) -> Head:
    """Turn the head by 30 degrees about a random axis; the header stays."""
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    angle = np.deg2rad(30)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    zooms = np.asarray(head.geometry.zooms, float)
    matrix = np.diag(1 / zooms) @ turn @ np.diag(zooms)
    middle = np.argwhere(head.brain[::4, ::4, ::4]).mean(0) * 4
    offset = middle - matrix @ middle

    def turn_array(array: np.ndarray, order: int, value: float) -> np.ndarray:
        result: np.ndarray = ndimage.affine_transform(
            array, matrix, offset, order=order, mode='constant', cval=value
        )
        return result

    data = turn_array(head.data.astype(np.float32), 1, void_value(head.data))
    return Head(head.name, data, turn_array(head.brain.view(np.uint8), 0, 0) > 0, head.vox2ras)


def thick(head: Head) -> Head:
    """Average slices to 5 mm along the last axis."""
    factor = max(1, round(5 / head.geometry.zooms[2]))
    length = head.data.shape[2] // factor
    shape = (*head.data.shape[:2], length, factor)
    data = head.data[..., : length * factor].reshape(shape).mean(3, dtype=np.float32)
    brain = head.brain[..., : length * factor].reshape(shape).mean(3) > 0.5
    moved = head.vox2ras.copy()
    moved[:3, 3] += moved[:3, 2] * (factor - 1) / 2
    moved[:3, 2] *= factor
    return Head(head.name, data, brain, moved)


def inverted(head: Head) -> Head:
    """Invert intensities within the head, so that fluid is bright and white matter dark."""
    data = head.data.astype(np.float32)
    top = float(np.quantile(data[head.brain], 0.98))
    inside = ndimage.binary_fill_holes(data > 0.15 * top)
    inside = ndimage.binary_opening(inside, iterations=2)
    return Head(
        head.name,
        np.where(inside, np.clip(1.1 * top - data, 0, None), data),
        head.brain,
        head.vox2ras,
    )


def synthetic_heads(data: Path, count: int, rng: np.random.Generator) -> Iterator[Head]:
    """Make heads with necks and shoulders from label maps that training has not seen."""
    options = SynthesisOptions(t1=0.6, neck=0.5, bias=0.3, noise=0.05)
    for number in HELD_OUT:
        path = data / f'label_maps/synthseg-20/training_seg_{number}.nii.gz'
        atlas = load_atlas(path, 'aseg_to_brain')
        for _ in range(count):
            yield whole_head(f'map {number}', atlas, rng, options)


def whole_head(
    name: str, atlas: Atlas, rng: np.random.Generator, options: SynthesisOptions
) -> Head:
    """Make one head with a body in a field of 260 to 500 mm along the body."""
    length, zoom = rng.uniform(260, 500), float(rng.choice((1.5, 2.0)))
    fields = np.array([rng.uniform(220, 360), length, rng.uniform(240, 320)])
    middle = atlas.inside.mean(0)
    # The head is near the upper end, at some distance from it.
    first = np.array([middle[0] - fields[0] / 2, middle[1] - rng.uniform(90, 130), 0])
    first[2] = middle[2] - fields[2] / 2
    first[[0, 2]] += rng.uniform(-15, 15, 2)
    axes = [np.arange(int(n / zoom)) * zoom + low for n, low in zip(fields, first, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing='ij')).astype(np.float32)
    labels = look_up(atlas, points, Body.draw(atlas, rng))
    means, deviations = draw_contrast(atlas, rng, options, t1_prior(), None)
    image = rng.standard_normal(labels.shape, np.float32)
    image *= lookup(deviations, labels)
    image += lookup(means, labels)
    image = ndimage.gaussian_filter(np.clip(image, 0, None), 0.5)
    image += np.abs(rng.normal(0, rng.uniform(0, options.noise), image.shape))
    vox2ras = np.array([[-1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]]) @ np.diag(
        [zoom, zoom, zoom, 1]
    )
    return Head(name, image.astype(np.float32), lookup(atlas.classes > 0, labels), vox2ras)


def orientations(heads: list[Head], localiser: Localiser) -> str:
    """Store heads in all orientations, with right headers; count those that are seen."""
    seen, total = 0, 0
    for order in permutations(range(3)):
        for signs in product((1, -1), repeat=2):
            for head in heads:
                # The direction of left and right does not matter.
                turn = np.array([[axis, 1] for axis in order])
                flipped = iter(signs)
                codes = nib.aff2axcodes(head.vox2ras)
                for axis, code in enumerate(codes):
                    if code not in 'LR':
                        turn[axis, 1] = next(flipped)
                data = nib.orientations.apply_orientation(head.data, turn)
                affine = head.vox2ras @ nib.orientations.inv_ornt_aff(turn, head.data.shape)
                found = localiser(data, Geometry.from_affine(affine, data.shape))
                seen += found.codes == found.header_codes
                total += 1
    return f'{seen} of {total} right ({seen / total:.1%})'


def speed(localiser: Localiser) -> str:
    """Time 800 frames of 512 x 512 int16 in memory: shrinking and network."""
    rng = np.random.default_rng(0)
    data = np.tile(rng.integers(0, 2000, (512, 512, 8), np.int16), (1, 1, 100))
    rows = []
    for _ in range(5):
        began = time.perf_counter()
        frames = shrink(data, (0.8, 0.8, 1.0), 2, localiser.threads)
        middle = time.perf_counter()
        localiser.probabilities(frames.images)
        rows.append((middle - began, time.perf_counter() - middle))
    shrinking, network = np.median(rows, 0)
    return f'800 frames of 512 x 512: shrinking {shrinking:.2f} s, network {network:.2f} s'


if __name__ == '__main__':
    main()

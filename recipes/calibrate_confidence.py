"""Find the confidence below which a model's labels are flagged, on images spoilt on purpose.

    python recipes/calibrate_confidence.py MODEL LABEL_MAPS OUT.tsv [--dice 0.7] [--maps 3]
        [--write]

Images are made of the label maps that the model's recipe held out, as they are and spoilt: ghosts
of a moving head, thick slices, noise, a blur, another contrast, a field of view that ends within
the head, a turned head. OUT.tsv has the confidence and the mean Dice over structures of each. The
limit is the one that marks most of the images with a Dice below ``--dice``, less those that it
marks in vain. What is stated for it, hits and false alarms, comes from limits of which each was
found without the label map that it was then tried on. ``--write`` puts it into the model's
``brainchop.json``.
"""

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

import brainchop_bids as bc
from brainchop_bids.models.confidence_limit import ConfidenceLimit
from brainchop_bids.models.labelfiles import OVERRIDES
from brainchop_bids.models.mapping import LabelMapping, read_mapping
from brainchop_bids.models.zoo import find_model
from brainchop_bids.training.augment.synthesis import synthesise
from brainchop_bids.training.augment.tissues import t1_prior
from brainchop_bids.training.config import read_training_config
from brainchop_bids.training.inherit import RECIPE
from brainchop_bids.training.options import SynthesisOptions

# A good scan of a healthy head.
GOOD = SynthesisOptions(
    rotation=5, scaling=0.05, translation=5, elastic=0, flip=0, bias=0.2, gamma=0.1, noise=0.02,
    low_resolution=0, t1=1, t1_spread=0.5, strip=0, deface=0, crop=0, proportions=0,
    low_contrast=0, lesions=0, contrast_agent=0, air_noise=0, outlier=0, intensity_jitter=0,
)  # fmt: skip
_STEPS = 400
Spoilt = tuple[str, np.ndarray, np.ndarray]


def main() -> int:
    """Make images, segment them, find the limit."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('model', help='name or folder')
    parser.add_argument('label_maps', type=Path, help='folder of label maps')
    parser.add_argument('out', type=Path, help='table of all images, TSV')
    parser.add_argument('--dice', type=float, default=0.7, help='least mean Dice of good labels')
    parser.add_argument('--maps', type=int, help='number of label maps; by default all')
    parser.add_argument('--write', action='store_true', help="change the model's brainchop.json")
    arguments = parser.parse_args()
    folder = find_model(arguments.model)
    data = read_training_config(folder / RECIPE).data
    mapping = read_mapping(data.mapping)
    rows = []
    with bc.Segmenter(folder) as segmenter:
        for number, name in enumerate(data.hold_out[: arguments.maps]):
            image = nib.load(arguments.label_maps / f'{name}.nii.gz')
            codes = np.asarray(image.dataobj).astype(np.uint16)
            for how, values, truth in _images(codes, np.random.default_rng(number)):
                found = segmenter.segment(values, image.affine)
                row = {
                    'map': name,
                    'image': how,
                    'confidence': found.quality.get('confidence', 0.0),
                    'dice': round(_dice(found.labels, truth, mapping), 4),
                }
                rows.append(row)
                print(*row.values(), sep='\t', flush=True)
    with arguments.out.open('w', encoding='utf-8', newline='') as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter='\t', lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)
    maps = np.array([row['map'] for row in rows])
    confidence = np.array([row['confidence'] for row in rows], float)
    bad = np.array([row['dice'] for row in rows], float) < arguments.dice
    limit = calibrate(maps, confidence, bad, arguments.dice)
    print(limit)
    if arguments.write:
        path = folder / OVERRIDES
        content = json.loads(path.read_text('utf-8'))
        content['confidence'] = limit.to_dict()
        path.write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')
    return 0


def calibrate(
    maps: np.ndarray, confidence: np.ndarray, bad: np.ndarray, dice: float
) -> ConfidenceLimit:
    """Return the limit for all images; hits and false alarms are cross-validated.

    Parameters
    ----------
    maps : (images,) array of str
        Label map of each image.
    confidence : (images,) array
        Confidence of each.
    bad : (images,) array of bool
        Whether its labels are bad.
    dice : float
        The mean Dice below which they are.

    Returns
    -------
    ConfidenceLimit
    """
    marked = np.zeros(bad.shape, bool)
    for name in np.unique(maps):
        mine = maps == name
        marked[mine] = confidence[mine] < _limit(confidence[~mine], bad[~mine])
    return ConfidenceLimit(
        least=_limit(confidence, bad),
        dice=dice,
        hits=int(marked[bad].sum()),
        bad=int(bad.sum()),
        false_alarms=int(marked[~bad].sum()),
        good=int((~bad).sum()),
    )


def _limit(confidence: np.ndarray, bad: np.ndarray) -> float:
    """Return the limit with the largest share of hits less that of false alarms."""
    limits = np.arange(1, _STEPS) / _STEPS
    gains = [
        (confidence[bad] < limit).mean() - (confidence[~bad] < limit).mean() for limit in limits
    ]
    # The middle of the best ones.
    best = np.flatnonzero(np.isclose(gains, max(gains)))
    return round(float(limits[best].mean()), 3)


def _images(codes: np.ndarray, rng: np.random.Generator) -> Iterator[Spoilt]:
    """Yield images of a label map, how each was spoilt, and its codes."""
    values, truth = synthesise(codes, rng, GOOD, prior=t1_prior())
    values = values.astype(np.float32)
    top = float(np.quantile(values[values > 0], 0.99))
    yield 'good', values, truth
    mm, slices, blur = rng.uniform(2, 16), int(rng.integers(2, 13)), rng.uniform(0.5, 4)
    share, degrees, lost = rng.uniform(0.05, 0.8), rng.uniform(15, 90), rng.uniform(0.2, 0.6)
    changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        f'head moved by {mm:.0f} mm': _moved(rng, mm),
        f'slices of {slices} mm': _thick(slices),
        f'noise of {share:.0%}': _noisy(rng, share * top),
        f'blurred by {blur:.1f} mm': lambda values: ndimage.gaussian_filter(values, blur),
        'inverted': lambda values: np.where(values > 0.05 * top, top - values, values).clip(0),
    }
    for name, change in changes.items():
        yield name, change(values), truth
    for number in range(2):
        other, moved = synthesise(codes, rng, replace(GOOD, t1=0), prior=t1_prior())
        yield f'contrast {number + 1}', other.astype(np.float32), moved
    turned = [
        ndimage.rotate(volume, degrees, (1, 2), reshape=False, order=order)
        for volume, order in ((values, 1), (truth, 0))
    ]
    yield f'turned by {degrees:.0f} degrees', turned[0], turned[1]
    places = np.flatnonzero(np.isin(truth, [3, 42]).any(axis=(1, 2)))
    end = int(places[-1] - lost * np.ptp(places))
    inside = (np.arange(values.shape[0]) < end)[:, None, None]
    yield f'{lost:.0%} cut off', values * inside, truth * inside


def _moved(rng: np.random.Generator, mm: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return a scan in which the head jumps several times: ghosts along the second axis."""

    def change(values: np.ndarray) -> np.ndarray:
        lines = np.fft.fft(values, axis=1)
        places = np.fft.fftfreq(values.shape[1])
        order = np.argsort(places)
        jumps = np.sort(rng.integers(0, order.size, 6))
        shifts = np.repeat(rng.uniform(-mm, mm, 7), np.diff([0, *jumps, order.size]))
        phases = np.zeros(order.size)
        phases[order] = shifts
        # The centre of k-space says where the head is: where it was.
        phases -= phases[0]
        lines *= np.exp(-2j * np.pi * places * phases)[None, :, None]
        return np.abs(np.fft.ifft(lines, axis=1)).astype(np.float32)

    return change


def _thick(mm: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return slices of so many voxels along the second axis, interpolated."""

    def change(values: np.ndarray) -> np.ndarray:
        blurred = ndimage.uniform_filter1d(values, mm, axis=1)
        count = values.shape[1] / mm
        options = {'order': 1, 'grid_mode': True, 'mode': 'nearest'}
        low = ndimage.zoom(blurred, (1, round(count) / values.shape[1], 1), **options)
        return ndimage.zoom(low, (1, values.shape[1] / low.shape[1], 1), **options)

    return change


def _noisy(rng: np.random.Generator, size: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        parts = rng.normal(0, size, (2, *values.shape)).astype(np.float32)
        return np.hypot(values + parts[0], parts[1])

    return change


def _dice(labels: nib.Nifti1Image, truth: np.ndarray, mapping: LabelMapping) -> float:
    """Return the mean Dice over the classes of the label map, background left out."""
    found, classes = np.asarray(labels.dataobj), mapping.classes
    wanted = mapping.apply(truth)
    table = np.bincount(
        classes * wanted.astype(np.int64).ravel() + found.astype(np.int64).ravel(),
        minlength=classes**2,
    ).reshape(classes, classes)
    sizes = table.sum(0) + table.sum(1)
    present = np.flatnonzero(table.sum(1))[1:]
    return float(np.mean(2 * np.diag(table)[present] / sizes[present]))


if __name__ == '__main__':
    sys.exit(main())

"""Measure what the clean-up and the mask rule of a model change, on whole heads and references.

    python benchmarks/brain_masks.py SHARED OUT [--model tissue] [--pictures FOLDER]

Each scan is labelled once; then its labels are cleaned up by the rules that the packaged models
had first (``largest+open:3``, a mask of all labels closed by 5 mm) and by those of the model.
Whole heads have no reference: for them the table tells how much is labelled and masked.
``voxelmorph`` and ``mni152`` have one: for them it has Dice of the mask with the reference's grey
and white matter closed by 8 mm, and of grey and of white matter.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from score_models import MAPPINGS, Case, _cases, _mni152

from brainchop_bids.evaluation.metrics import agreement
from brainchop_bids.image.cleanup import MaskRule
from brainchop_bids.image.components import Removed, brain_mask, clean_labels
from brainchop_bids.image.conform import Conformed, ConformOptions, conform
from brainchop_bids.image.io import load_labels, read_volume
from brainchop_bids.image.resample import labels_to_grid
from brainchop_bids.image.smooth import Smoothing, smooth_labels
from brainchop_bids.inference.options import InferenceOptions
from brainchop_bids.inference.plan import make_engine, plan_scan
from brainchop_bids.inference.run import run_network
from brainchop_bids.models.mapping import read_mapping
from brainchop_bids.models.spec import ModelSpec, load_spec
from brainchop_bids.models.zoo import find_model
from brainchop_bids.reports.figures.mosaic import compose_mosaic
from brainchop_bids.system.resources import available_memory


@dataclass(frozen=True)
class Rules:
    """What is done to a network's labels."""

    name: str
    smoothing: Smoothing
    cleanup: str
    mask: MaskRule


def main() -> None:
    """Label, clean up by both rules, print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('shared', type=Path, help='the folder of scans')
    parser.add_argument('out', type=Path, help='for references that are made')
    parser.add_argument('--model', default='tissue', help='name or folder of a model')
    parser.add_argument('--pictures', type=Path, help='folder for a picture of each whole head')
    parser.add_argument('--threads', type=int, default=2)
    arguments = parser.parse_args()
    for folder in filter(None, (arguments.out, arguments.pictures)):
        folder.mkdir(parents=True, exist_ok=True)
    spec = load_spec(find_model(arguments.model))
    before = Rules('before', Smoothing(), 'largest+open:3', MaskRule(closing_mm=5))
    after = Rules('after', spec.smoothing, spec.cleanup, spec.mask_rule)
    print('| scan | rules | mask, mL | labels, mL | removed, mL | CPU, s | mask | GM | WM |')
    print('|---|---|---:|---:|---:|---:|---|---|---|')
    for case in _all_cases(arguments.shared, arguments.out):
        conformed = conform(read_volume(case.scan), ConformOptions(), threads=arguments.threads)
        raw = _network(spec, conformed, arguments.threads)
        for rules in (before, after):
            start = time.process_time()
            labels = smooth_labels(raw, rules.smoothing, threads=arguments.threads)
            zooms = conformed.geometry.zooms
            labels, mask, removed = clean_labels(labels, rules.cleanup, rules.mask, zooms=zooms)
            seconds = time.process_time() - start
            scores = _scores(case, conformed, labels, mask, spec)
            print(_row(case, rules, (labels, mask, removed), seconds, scores), flush=True)
            if arguments.pictures and case.reference is None:
                stem = case.name.replace(' ', '-')
                picture = _picture(conformed, labels, mask, spec)
                picture.save(arguments.pictures / f'{stem}_{rules.name}.png')


def _all_cases(shared: Path, out: Path) -> Iterator[Case]:
    data = shared / 'data'
    for scan in sorted((data / 'ds000011').glob('sub-*/anat/*_T1w.nii.gz')):
        yield Case(f'ds000011 {scan.name.partition("_")[0]}', scan)
    for name in ('studyforrest-philips-dicom', 'fnndsc-10yr-trio'):
        yield Case(name.partition('-')[0], data / 't1w' / name / 'T1w.nii.gz')
    yield _mni152(out)
    yield next(_cases(shared, out, MAPPINGS['tissue']))


def _network(spec: ModelSpec, conformed: Conformed, threads: int) -> np.ndarray:
    zooms = conformed.geometry.zooms
    plan = plan_scan(spec, conformed.data, zooms, available_memory(), InferenceOptions())
    engine = make_engine(plan, spec, threads, None)
    # Nothing is flipped, so nothing is written.
    return run_network(engine, plan, conformed.data, Path)


def _scores(
    case: Case, conformed: Conformed, labels: np.ndarray, mask: np.ndarray, spec: ModelSpec
) -> list[float]:
    """Return Dice of the mask and of grey and white matter; nothing without a reference."""
    if case.reference is None:
        return []
    codes, source = load_labels(case.reference)
    if case.mapping:
        codes = read_mapping(case.mapping).apply(codes)
    truth = labels_to_grid(codes.astype(np.uint8), source, conformed.geometry, method='nearest')
    zooms = conformed.geometry.zooms
    closed = brain_mask(truth, zooms, MaskRule(exclude=(3,), closing_mm=8))
    pairs = [(mask != 0, closed != 0)]
    for kind in (1, 2):
        ours = [label.index for label in spec.labels if label.mapping == kind]
        pairs.append((np.isin(labels, ours), truth == kind))
    return [agreement(*pair, zooms, surfaces=False).dice for pair in pairs]


def _row(
    case: Case,
    rules: Rules,
    found: tuple[np.ndarray, np.ndarray, Removed],
    seconds: float,
    scores: list[float],
) -> str:
    labels, mask, removed = found
    counts = np.count_nonzero(mask), np.count_nonzero(labels), removed.voxels
    # Conformed voxels have 1 mm^3.
    cells = [case.name, rules.name, *(f'{count / 1000:,.0f}' for count in counts)]
    cells += [f'{seconds:.1f}', *(f'{score:.3f}' for score in scores)]
    return f'| {" | ".join(cells + [""] * (9 - len(cells)))} |'


def _picture(
    conformed: Conformed, labels: np.ndarray, mask: np.ndarray, spec: ModelSpec
) -> Image.Image:
    colors = {label.index: label.color for label in spec.labels}
    drawn = compose_mosaic(conformed.data, labels, colors, mask=mask)
    faint = drawn.labels.copy()
    faint.putalpha(drawn.labels.getchannel('A').point(lambda alpha: alpha // 2))
    layers = Image.alpha_composite(drawn.scan.convert('RGBA'), faint)
    return Image.alpha_composite(layers, drawn.outline).convert('RGB')


if __name__ == '__main__':
    main()

"""Score models on scans with references, and on spoilt versions of them.

    python benchmarks/score_models.py SHARED OUT [--task structures|sides]
        [--models NAME=FOLDER[,NORMALIZATION] ...]

Every score is made by ``brainchop-segment`` and ``brainchop-evaluate`` as users run them. Scans:
``voxelmorph`` (FreeSurfer's aseg), ``mni152`` (nilearn's grey and white matter maps above 0.5; for
tissues) and ``held-out`` (label maps the packaged models never saw, rendered T1-like). README.md
beside this says more.
"""

import argparse
import csv
import itertools
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from brainchop_bids.models import DEFAULT_MODEL
from brainchop_bids.models.mapping import read_mapping
from brainchop_bids.models.sides import lateral_pairs
from brainchop_bids.models.spec import load_spec
from brainchop_bids.models.zoo import find_model
from brainchop_bids.training.augment.synthesis import synthesise
from brainchop_bids.training.augment.tissues import t1_prior
from brainchop_bids.training.options import SynthesisOptions

# The table for FreeSurfer's codes that a model's labels are compared by.
MAPPINGS = {
    'tissue': 'aseg_to_tissue',
    'structures': 'aseg_to_subcortical',
    'sides': 'aseg_to_aseg',
}
# White matter that FreeSurfer's aseg gives no side: hypointensities, corpus callosum.
WITHOUT_SIDE = [77, 251, 252, 253, 254, 255]
WHITE_MATTER = [2, 41]
HELD_OUT = [f'training_seg_{n}' for n in range(16, 21)]
# What a good scanner does to a head: little.
RENDERED = SynthesisOptions(
    rotation=5, scaling=0.05, translation=5, elastic=0, flip=0, bias=0.2, gamma=0.1, noise=0.02,
    low_resolution=0, t1=1, t1_spread=0.5, strip=0, deface=0, crop=0, proportions=0,
    low_contrast=0, lesions=0, contrast_agent=0, air_noise=0, outlier=0, intensity_jitter=0,
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A scan, its reference, where there is one, and the table for the reference's codes."""

    name: str
    scan: Path
    reference: Path | None = None
    mapping: str | None = None
    real: bool = True


@dataclass(frozen=True)
class Candidate:
    """A model and how its input is scaled, None for its own way."""

    name: str
    folder: Path
    normalization: str | None = None


def main() -> None:
    """Make the cases, segment and compare, print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('shared', type=Path, help='the folder of scans and upstream models')
    parser.add_argument('out', type=Path, help='segmentations and scores')
    parser.add_argument('--models', nargs='*', metavar='NAME=FOLDER[,NORMALIZATION]')
    parser.add_argument('--task', choices=list(MAPPINGS), default='tissue', help='which labels')
    parser.add_argument('--no-spoilt', action='store_true', help='only the scans as they are')
    parser.add_argument(
        '--any-contrast', action='store_true', help='held-out maps in random contrasts too'
    )
    parser.add_argument('--surfaces', action='store_true', help='distances too: a minute a scan')
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    mapping, upstream = MAPPINGS[arguments.task], arguments.shared / 'models' / 'brainchop'
    given = [_candidate(text) for text in arguments.models or []]
    if arguments.task == 'sides' and not given:
        parser.error('--task sides needs --models: no packaged model has sides')
    candidates = given or _defaults(upstream, arguments.task)
    contrasts = {'held-out': RENDERED}
    if arguments.any_contrast:
        contrasts['any contrast'] = replace(RENDERED, t1=0)
    cases = list(_cases(arguments.shared, arguments.out, mapping, contrasts))
    if arguments.task == 'tissue':
        cases.insert(1, _mni152(arguments.out))
    more = [] if arguments.surfaces else ['--no-surfaces']

    def scores(candidates: list[Candidate], cases: list[Case]) -> list[dict[str, str | float]]:
        return [
            row
            for c in candidates
            for row in _scores(c, cases, arguments.out, more, arguments.task)
        ]

    rows = scores(candidates, cases)
    if not arguments.no_spoilt:
        for case in [case for case in cases if case.real]:
            spoilt = list(_spoilt(case, arguments.out))
            rows += scores(candidates[:2], spoilt)
    with (arguments.out / 'scores.tsv').open('w') as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter='\t')
        writer.writeheader()
        writer.writerows(rows)
    if arguments.task == 'tissue':
        _report(rows)
        return
    _report_labels(rows)
    if arguments.task == 'sides':
        _report_sides(rows)


def _candidate(text: str) -> Candidate:
    name, _, rest = text.partition('=')
    folder, _, normalization = rest.partition(',')
    return Candidate(name, Path(folder), normalization or None)


def _defaults(upstream: Path, task: str) -> list[Candidate]:
    if task == 'structures':
        return [
            Candidate('subcortical', find_model('subcortical')),
            Candidate('model30chan18cls', upstream / 'model30chan18cls'),
        ]
    clipped = 'quantile:0.02:0.98:clip'
    return [
        Candidate(DEFAULT_MODEL, find_model(DEFAULT_MODEL)),
        Candidate('model5_gw_ae minmax', upstream / 'model5_gw_ae', 'minmax'),
        Candidate('model5_gw_ae quantile', upstream / 'model5_gw_ae', clipped),
        Candidate('model20chan3cls', upstream / 'model20chan3cls'),
    ]


def _mni152(out: Path) -> Case:
    data = Path(str(files('nilearn.datasets') / 'data'))
    names = {k: f'mni_icbm152_{k}_tal_nlin_sym_09a_converted.nii.gz' for k in ('t1', 'gm', 'wm')}
    grey, white = (nib.load(data / names[kind]) for kind in ('gm', 'wm'))
    maps = [np.asarray(image.dataobj) / 255 for image in (grey, white)]
    labels = np.where(np.max(maps, 0) > 0.5, 1 + np.argmax(maps, 0), 0).astype(np.uint8)
    reference = out / 'mni152_reference.nii.gz'
    nib.Nifti1Image(labels, grey.affine).to_filename(reference)
    return Case('mni152', data / names['t1'], reference)


def _cases(
    shared: Path, out: Path, mapping: str, contrasts: dict[str, SynthesisOptions]
) -> Iterator[Case]:
    folder = shared / 'data' / 't1w' / 'voxelmorph-test-scan'
    reference = folder / 'seg.nii.gz'
    if mapping == MAPPINGS['sides']:
        reference = _sided(reference, out / 'voxelmorph_reference.nii.gz')
    yield Case('voxelmorph', folder / 'vol.nii.gz', reference, mapping)
    for (kind, options), (number, name) in itertools.product(
        contrasts.items(), enumerate(HELD_OUT)
    ):
        stem = f'{name}_{kind.replace(" ", "-")}'
        scan, truth = out / f'{stem}_T1w.nii.gz', out / f'{stem}_reference.nii.gz'
        image = nib.load(shared / 'data' / 'label_maps' / 'synthseg-20' / f'{name}.nii.gz')
        codes = np.asarray(image.dataobj).astype(np.uint16)
        rng = np.random.default_rng(number)
        rendered, moved = synthesise(codes, rng, options, prior=t1_prior())
        nib.Nifti1Image(rendered, image.affine).to_filename(scan)
        labels = read_mapping(mapping).apply(moved)
        nib.Nifti1Image(labels, image.affine).to_filename(truth)
        yield Case(f'{kind} {name[-2:]}', scan, truth, real=False)


def _sided(path: Path, out: Path) -> Path:
    """Give white matter without a side the side of the nearest that has one."""
    image = nib.load(path)
    codes = np.asarray(image.dataobj).astype(np.uint16)
    known = np.isin(codes, WHITE_MATTER)
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    lone = np.isin(codes, WITHOUT_SIDE)
    codes[lone] = codes[tuple(axis[lone] for axis in nearest)]
    nib.Nifti1Image(codes, image.affine).to_filename(out)
    return out


def _spoilt(case: Case, out: Path) -> Iterator[Case]:
    """Make the scan turned, inverted, blurred and noisy; turn the reference with it."""
    image, truth = nib.load(case.scan), nib.load(case.reference)
    values = np.squeeze(np.asarray(image.dataobj)).astype(np.float32)
    codes = np.squeeze(np.asarray(truth.dataobj)).astype(np.int16)
    rng = np.random.default_rng(0)
    top = float(np.quantile(values[values > 0], 0.99))
    changes: dict[str, tuple[Callable[[np.ndarray], np.ndarray], np.ndarray]] = {
        'rotated 20 degrees': (lambda v: _turned(v, 1), _turned(codes, 0)),
        'half contrast, inverted': (lambda v: _inverted(v), codes),
        'slices of 3 mm': (lambda v: _thick(v, 3 / float(image.header.get_zooms()[2])), codes),
        'noise of 10 %': (
            lambda v: np.abs(v + rng.normal(0, 0.1 * top, v.shape).astype(np.float32)),
            codes,
        ),
    }
    for name, (change, reference) in changes.items():
        stem = f'{case.name}_{name.replace(" ", "-").replace("%", "percent").replace(",", "")}'
        files = out / f'{stem}_T1w.nii.gz', out / f'{stem}_reference.nii.gz'
        nib.Nifti1Image(change(values.copy()), image.affine).to_filename(files[0])
        nib.Nifti1Image(reference, truth.affine).to_filename(files[1])
        yield Case(f'{case.name}, {name}', *files, case.mapping)


def _turned(values: np.ndarray, order: int) -> np.ndarray:
    for axes in ((0, 1), (1, 2)):
        values = ndimage.rotate(values, 20, axes, reshape=False, order=order)
    return values


def _inverted(values: np.ndarray) -> np.ndarray:
    """Invert the contrast of the head and halve it, around its mean."""
    head = values > 0.05 * values.max()
    mean = values[head].mean()
    values[head] = np.clip(mean - (values[head] - mean) / 2, 0, None)
    return values


def _thick(values: np.ndarray, voxels: float) -> np.ndarray:
    """Average over slices along the last axis, and interpolate back."""
    count = max(2, round(values.shape[2] / voxels))
    blurred = ndimage.uniform_filter1d(values, max(1, round(voxels)), axis=2)
    low = ndimage.zoom(
        blurred, (1, 1, count / values.shape[2]), order=1, grid_mode=True, mode='nearest'
    )
    back = values.shape[2] / low.shape[2]
    return ndimage.zoom(low, (1, 1, back), order=1, grid_mode=True, mode='nearest')


def _scores(
    candidate: Candidate, cases: list[Case], out: Path, more: list[str], task: str
) -> Iterator[dict[str, str | float]]:
    names = {str(label): name for label, name in read_mapping(MAPPINGS[task]).labels.items()}
    known = load_spec(candidate.folder).labels
    table = out / f'{candidate.folder.name}_mapping.tsv'
    table.write_text(known.to_tsv())
    # A model of FreeSurfer's labels is compared by any table for them.
    coded = len(known) > 2 and all(label.freesurfer is not None for label in known)
    for case in cases:
        stem = f'{candidate.name}_{case.name}'.replace(' ', '-').replace(',', '').replace('%', '')
        labels, scores = out / f'{stem}_dseg.nii.gz', out / f'{stem}_scores.tsv'
        how = ['--normalization', candidate.normalization] if candidate.normalization else []
        if coded:
            how += ['--label-codes', 'freesurfer']
        _run('segment', case.scan, labels, '--model', candidate.folder, *how)
        tables = ['--mapping', case.mapping] if case.mapping else []
        if coded or task == 'tissue':
            tables += ['--pred-mapping', MAPPINGS[task] if coded else str(table)]
        _run('evaluate', labels, case.reference, *tables, '--out', scores, *more)
        facts: dict[str, str | float] = {'model': candidate.name}
        if task == 'sides':
            facts['swapped'] = _swapped(labels, case)
        with scores.open() as file:
            for row in csv.DictReader(file, delimiter='\t'):
                name = names.get(row['label'], row['name'])
                yield {**facts, **row, 'scan': case.name, 'name': name}
        print(f'{candidate.name}: {case.name}', file=sys.stderr)


def _swapped(labels: Path, case: Case) -> float:
    """Return the share of voxels with the right name that have the wrong side."""
    mapping = read_mapping(MAPPINGS['sides'])
    found, truth = (np.squeeze(np.asarray(nib.load(p).dataobj)) for p in (labels, case.reference))
    found = mapping.apply(found.astype(np.uint16))
    if case.mapping:
        truth = mapping.apply(truth.astype(np.uint16))
    other = np.arange(mapping.classes)
    for left, right in lateral_pairs(mapping.labels):
        other[[left, right]] = right, left
    paired = other[truth] != truth
    right, wrong = (int((paired & (found == t)).sum()) for t in (truth, other[truth]))
    return wrong / max(1, right + wrong)


def _run(command: str, *arguments: object) -> None:
    subprocess.run(
        [sys.executable, '-m', f'brainchop_bids.cli.{command}', *map(str, arguments)],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def _report(rows: list[dict[str, str | float]]) -> None:
    """Print a row for each scan and model; upstream's and nilearn's brains have no fluid."""
    scans = list(dict.fromkeys(str(row['scan']) for row in rows))
    print('| scan | model | GM | WM | mean | brain | GM 95 % Hausdorff, mm | WM |')
    print('|---|---|---|---|---|---|---|---|')
    for scan in [*scans, 'held-out, all']:
        for model in dict.fromkeys(str(row['model']) for row in rows):
            values = {
                (name, key): _mean(rows, scan, model, name, key)
                for name in ('GM', 'WM', 'brain')
                for key in ('dice', 'hausdorff95_mm')
            }
            if values['GM', 'dice'] is None:
                continue
            pair = [values['GM', 'dice'], values['WM', 'dice']]
            cells = [*pair, statistics.mean(pair), values['brain', 'dice']]
            far = [values['GM', 'hausdorff95_mm'], values['WM', 'hausdorff95_mm']]
            texts = [
                *(f'{x:.3f}' for x in cells),
                *('n/a' if x is None else f'{x:.1f}' for x in far),
            ]
            print(f'| {scan} | {model} | {" | ".join(texts)} |')


def _report_labels(rows: list[dict[str, str | float]]) -> None:
    """Print a row for each label: Dice of each model on each scan, held-out ones averaged."""
    models = list(dict.fromkeys(str(row['model']) for row in rows))
    # Held-out maps are numbered, and averaged.
    names = [str(row['scan']) for row in rows]
    scans = list(dict.fromkeys(f'{s[:-3]}, all' if s[-2:].isdigit() else s for s in names))
    columns = [(scan, model) for scan in scans for model in models]
    columns = [c for c in columns if _mean(rows, *c, 'brain', 'dice') is not None]
    print('| label | ' + ' | '.join(f'{scan}: {model}' for scan, model in columns) + ' |')
    print('|---' * (1 + len(columns)) + '|')
    names = list(dict.fromkeys(str(row['name']) for row in rows))
    table = {name: [_mean(rows, *column, name, 'dice') for column in columns] for name in names}
    brain = table.pop('brain')
    known = [[values[i] for values in table.values()] for i in range(len(columns))]
    table['mean'] = [statistics.mean(x for x in v if x is not None) for v in known]
    for name, values in {**table, 'brain': brain}.items():
        texts = ['n/a' if value is None else f'{value:.3f}' for value in values]
        print(f'| {name} | {" | ".join(texts)} |')


def _report_sides(rows: list[dict[str, str | float]]) -> None:
    """Print in how many scans voxels have the other side's label, and how many."""
    print('\n| scan | model | voxels on the wrong side, % |')
    print('|---|---|---|')
    shares = {(row['scan'], row['model']): float(row['swapped']) for row in rows}
    for (scan, model), share in shares.items():
        print(f'| {scan} | {model} | {100 * share:.2f} |')


def _mean(
    rows: list[dict[str, str | float]], scan: str, model: str, name: str, key: str
) -> float | None:
    found = [
        float(row[key])
        for row in rows
        if row['model'] == model
        and row['name'] == name
        and row[key] != 'n/a'
        and (row['scan'] == scan or scan == f'{str(row["scan"])[:-3]}, all')
    ]
    return statistics.mean(found) if found else None


if __name__ == '__main__':
    main()

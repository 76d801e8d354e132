"""Brain measures against FreeSurfer's own of a scan, and by construction."""

import re
from pathlib import Path

import pytest

from brainchop_bids.models.brain_measures import MEASURES, brain_measures
from brainchop_bids.models.freesurfer import freesurfer_code
from brainchop_bids.models.spec import load_spec
from brainchop_bids.models.zoo import find_model

RECIPES = Path(__file__).parents[2] / 'recipes'


def model_labels(folder: Path) -> tuple[dict[int, str], dict[int, int]]:
    labels = load_spec(folder).labels
    codes = {label.index: label.freesurfer for label in labels if label.freesurfer}
    return {label.index: label.name for label in labels}, codes


def test_they_are_freesurfers(shared: Path) -> None:
    """The volumes of structures in a file of FreeSurfer's give the measures at its head.

    Those of structures are corrected for partial volume, but the measures are counts of voxels,
    so that they differ by up to 2.5 per cent.
    """
    text = (shared / 'data' / 't1w' / 'fnndsc-10yr-trio' / 'aseg.stats').read_text()
    measures = re.findall(r'^# Measure (\w+), \w+, .*, ([\d.]+), mm\^3', text, re.MULTILINE)
    theirs = {name: float(value) for name, value in measures}
    rows = re.findall(r'^ *\d+ +(\d+) +\d+ +([\d.]+) +(\S+)', text, re.MULTILINE)
    codes, names = {}, {}
    volumes = {}
    for code, volume, name in rows:
        names[int(code)], codes[int(code)], volumes[int(code)] = name, int(code), float(volume)
    # The table lacks cortex and white matter. The latter's measure includes corpus callosum and
    # hypointensities, which have rows.
    inner = sum(volumes[code] for code in (77, *range(251, 256)))
    for side, white, cortex in (('l', 2, 3), ('r', 41, 42)):
        volumes[cortex] = theirs[f'{side}hCortex']
        volumes[white] = theirs[f'{side}hCorticalWhiteMatter'] - inner / 2
        names |= {cortex: 'cortex', white: 'white matter'}
        codes |= {cortex: cortex, white: white}
    ours = brain_measures(volumes, names, codes)
    assert set(ours) == set(MEASURES) - {
        'EstimatedTotalIntraCranialVol', 'lhCerebralWhiteMatter', 'rhCerebralWhiteMatter',
    }  # fmt: skip
    within = {'BrainSeg': 0.005, 'BrainSegNotVent': 0.005, 'TotalGray': 0.002, 'Cortex': 1e-6}
    within |= {'lhCortex': 1e-6, 'rhCortex': 1e-6, 'SubCortGray': 0.025}
    for name, tolerance in within.items():
        assert ours[name] == pytest.approx(theirs[name], rel=tolerance), name
    white = theirs['CorticalWhiteMatter']
    assert ours['CerebralWhiteMatter'] == pytest.approx(white, rel=1e-6)
    # What FreeSurfer subtracts from one for the other are counts of voxels as well.
    fluid = theirs['BrainSeg'] - theirs['BrainSegNotVent']
    assert ours['BrainSeg'] - ours['BrainSegNotVent'] == pytest.approx(fluid, rel=0.07)
    cerebellum = theirs['BrainSegNotVentSurf'] - theirs['Cortex'] - white - theirs['SubCortGray']
    assert ours['Cerebellum'] == pytest.approx(cerebellum, rel=0.012)
    ventricles = theirs['SupraTentorial'] - theirs['SupraTentorialNotVent']
    assert ours['VentricleChoroidVol'] == pytest.approx(ventricles, rel=0.06)


def test_models_with_and_without_sides_have_the_same_meaning() -> None:
    """Volumes of a model with sides, and their sums as one without sides has them."""
    names, codes = model_labels(RECIPES / 'aseg-start')
    volumes = {index: 1000.0 + index for index in names if index}
    sided = brain_measures(volumes, names, codes, fluid=True)
    merged_names, merged_codes = model_labels(find_model('subcortical'))
    merged_volumes = {}
    for index, name in merged_names.items():
        same = {'Inferior-Lateral-Ventricle': 'Inf-Lat-Vent'}.get(name, name)
        merged_volumes[index] = sum(
            volumes.get(other, 0)
            for other, title in names.items()
            if re.sub('^(Left|Right)-', '', title) == same
        )
    merged = brain_measures(merged_volumes, merged_names, merged_codes)
    assert set(sided) - set(merged) == {
        'lhCortex', 'rhCortex', 'lhCerebralWhiteMatter', 'rhCerebralWhiteMatter',
    }  # fmt: skip
    assert merged == {name: sided[name] for name in merged}
    stem = next(index for index, name in names.items() if name == 'Brain-Stem')
    csf = next(index for index, name in names.items() if name == 'CSF')
    whole = sum(volumes.values()) - volumes[stem]
    assert sided['BrainSeg'] == whole - volumes[csf]
    # Where the label is FreeSurfer's, and not the fluid around the brain, it counts.
    assert brain_measures(volumes, names, codes)['BrainSeg'] == whole
    assert sided['Cortex'] == sided['lhCortex'] + sided['rhCortex']


def test_what_labels_do_not_give_is_absent() -> None:
    assert brain_measures({1: 5.0, 2: 6.0}, *model_labels(find_model('tissue'))) == {}
    names = {1: 'Left-Caudate', 2: 'Right-Caudate', 3: 'Left-Cerebral-Cortex', 4: 'Cerebellum'}
    codes = {index: code for index, name in names.items() if (code := freesurfer_code(name))}
    # Half a cortex is none; the label Cerebellum may be its cortex or all of it.
    assert brain_measures(dict.fromkeys(names, 1.0), names, codes) == {'lhCortex': 1.0}


def test_regions_make_a_cortex_if_none_is_missing() -> None:
    from brainchop_bids.models.freesurfer import REGIONS

    names = dict(enumerate(sorted(REGIONS), 1))
    assert len(names) == 34
    assert brain_measures(dict.fromkeys(names, 2.0), names, {}) == {'Cortex': 68.0}
    left = {index: name.replace('ctx', 'ctx-lh') for index, name in names.items()}
    codes = {index: freesurfer_code(name) or 0 for index, name in left.items()}
    assert brain_measures(dict.fromkeys(left, 2.0), left, codes) == {'lhCortex': 68.0}
    del left[7]
    assert brain_measures(dict.fromkeys(left, 2.0), left, codes) == {}


def test_hemispheres_share_the_corpus_callosum() -> None:
    names = {1: 'Left-Cerebral-White-Matter', 2: 'Right-Cerebral-White-Matter', 3: 'CC_Central'}
    codes = {1: 2, 2: 41, 3: 253}
    assert brain_measures({1: 10.0, 2: 20.0, 3: 4.0}, names, codes) == {
        'lhCerebralWhiteMatter': 12.0,
        'rhCerebralWhiteMatter': 22.0,
        'CerebralWhiteMatter': 34.0,
    }

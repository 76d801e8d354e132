"""The methods text under all rules."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainchop_bids.image.cleanup import MaskRule
from brainchop_bids.image.conform import ConformOptions
from brainchop_bids.image.smooth import Smoothing
from brainchop_bids.inference.options import InferenceOptions
from brainchop_bids.models.spec import load_spec
from brainchop_bids.models.zoo import find_model
from brainchop_bids.workflows.boilerplate import describe_methods, list_references

TISSUE, SUBCORTICAL = (load_spec(find_model(name)) for name in ('tissue', 'subcortical'))


def words(text: str) -> str:
    return ' '.join(text.split())


@given(
    components=st.sampled_from(
        [
            'none',
            'largest',
            'largest+open:3+min:9+within:5+fill',
            'per-label+within:2',
            'groups:1,2/3',
        ]
    ),
    subvolumes=st.sampled_from(
        [None, '64', '64+overlap:16', '64+random:2+mean', '64+overlap:8+random:2+vote']
    ),
    precision=st.sampled_from(['f32', 'bf16']),
    tta=st.booleans(),
    resample=st.sampled_from(['linear', 'nearest']),
    smoothing=st.sampled_from([Smoothing(), Smoothing(0.9), Smoothing(0.9, 0.5)]),
    mask_rule=st.builds(
        MaskRule,
        exclude=st.sampled_from([(), (3,)]),
        open_mm=st.sampled_from([0.0, 4.0]),
        closing_mm=st.sampled_from([0.0, 8.0]),
    ),
    covers_brain=st.booleans(),
    normalization=st.sampled_from(
        [None, 'minmax', 'zscore', 'zscore-whole', 'max', 'brats', 'none']
    ),
)
def test_every_rule_gives_whole_sentences(
    components,
    subvolumes,
    precision,
    tta,
    resample,
    smoothing,
    mask_rule,
    covers_brain,
    normalization,
) -> None:
    spec = replace(TISSUE, smoothing=smoothing, mask_rule=mask_rule, covers_brain=covers_brain)
    options = InferenceOptions(precision=precision, tta=tta, subvolumes=subvolumes)
    text = words(
        describe_methods([spec], components, resample, options, normalization=normalization)
    )
    assert not re.search(r'[ (][,.;:]|[,;:]\.|\.\.|, and ,|None', text), text
    assert all(sentence[0].isupper() for sentence in re.split(r'(?<=[^\d])\. ', text)), text
    assert text.endswith('.')
    cited = set(re.findall(r'\[@\w+\]', text))
    assert cited == set(re.findall(r'^- (\[@\w+\])', list_references(text), re.MULTILINE))


@pytest.mark.parametrize(
    ('components', 'sentence'),
    [
        ('largest+open:3', 'connected to it only through bridges narrower than 6 mm were removed'),
        ('largest+min:20', 'Components smaller than 20 mm^3 were removed.'),
        (
            'groups:1,2/3',
            'groups of labels was kept: Gray Matter, White Matter; Cerebrospinal Fluid.',
        ),
        (
            'none+within:5',
            'removed except Cerebrospinal Fluid within 5 mm of it. Labels and masks',
        ),
        ('largest+fill', 'Holes were filled with the label of the nearest labelled voxel.'),
    ],
)
def test_sizes_and_labels_are_those_of_the_rule(components: str, sentence: str) -> None:
    assert sentence in words(describe_methods([TISSUE], components))


def test_one_brain_mask_of_several_models() -> None:
    text = words(describe_methods([TISSUE, SUBCORTICAL]))
    assert 'The brain mask of *tissue* was used as the brain mask of the scan.' in text
    assert 'brain mask of the scan' not in words(describe_methods([TISSUE]))


def test_options_of_the_conform_step_and_of_intensities() -> None:
    assert 'quantiles' in words(describe_methods([TISSUE]))
    conform = ConformOptions(voxel_size=0.8, interpolation='cubic')
    text = words(describe_methods([TISSUE], normalization='zscore', conform=conform))
    assert 'isotropic voxels of 0.8 mm with cubic interpolation' in text
    assert 'standardized to zero mean and unit variance over voxels above 0' in text
    assert '1 mm' not in text
    of_ct = describe_methods([TISSUE], conform=ConformOptions(ct=True))
    text = words(of_ct)
    assert 'clipped to 0 to 80 Hounsfield units, as in *SynthSeg* [@synthseg]. Scans' in text
    assert text.startswith('Each CT scan was segmented')
    assert '- [@synthseg] Billot' in list_references(of_ct)


def test_border_and_uncertainty() -> None:
    plain = words(describe_methods([TISSUE]))
    assert 'uncertainty' not in plain
    assert 'mm. Labels and masks were' not in plain
    text = words(describe_methods([TISSUE], border=-2.0, uncertainty=True))
    assert 'The brain mask was then shrunk by 2 mm.' in text
    assert 'entropy of its class probabilities, in nats' in text
    both = describe_methods([TISSUE], inference=InferenceOptions(tta=True), uncertainty=True)
    assert 'mutual information of class and image' in words(both)
    for key in ('tta', 'bald'):
        assert f'- [@{key}]' in list_references(both)
        assert f'- [@{key}]' not in list_references(text)

"""The page as a browser's parser sees it."""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from brainchop_bids.reports.participant.page import write_participant_page
from brainchop_bids.system.errors import OutputError

Add = Callable[..., Path]
Facts = Callable[..., dict[str, Any]]

VOID = {'meta', 'img', 'br', 'hr', 'link', 'input'}
HOSTILE = (
    '<script>alert(1)</script>',
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    '</title></style><b>',
    '{{ 7 * 7 }}{% raw %}',
    '&lt;b&gt;&amp;',
    '\u202edetrever\u202c',
    '𝔅𝔯𝔞𝔦𝔫 🧠 שלום',
    'x' * 5000,
)


class Page(HTMLParser):
    """What a page holds: tags with attributes, text by place, tables."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ''
        self.rows: list[list[str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or '' for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)
        if tag == 'tr':
            self.rows.append([])
        if tag in ('td', 'th'):
            self.rows[-1].append('')

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {'style', 'script'} & set(self.open):
            return
        self.text += data
        if {'td', 'th'} & set(self.open):
            self.rows[-1][-1] += data.strip()

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def render(root: Path, participant: str = '01', session: str | None = None) -> tuple[Page, str]:
    path = write_participant_page(root, participant, session)
    assert path is not None
    html = path.read_text(encoding='utf-8')
    return Page(html), html


def test_the_page_is_named_after_participant_and_session(
    derivatives: Path, add_result: Add
) -> None:
    add_result('sub-01_ses-A_T1w')
    assert write_participant_page(derivatives, 'sub-01') == derivatives / 'sub-01.html'
    path = derivatives / 'sub-01_ses-A.html'
    assert write_participant_page(derivatives, '01', 'A') == path
    other = 'id="sub-01_T1w_seg-gw"'
    assert other in (derivatives / 'sub-01.html').read_text()
    assert other not in path.read_text()
    assert not [path for path in derivatives.iterdir() if path.name.startswith('.')]


def test_the_viewer_can_be_left_out(derivatives: Path) -> None:
    path = write_participant_page(derivatives, '01', viewer=False)
    assert path is not None
    html = path.read_text()
    assert 'application/octet-stream' not in html
    assert 'data-viewer ' not in html
    assert 'data-find="' not in html


def test_nobody_has_no_page(derivatives: Path) -> None:
    assert write_participant_page(derivatives, '99') is None
    assert not (derivatives / 'sub-99.html').exists()


def test_the_page_loads_nothing_from_outside(derivatives: Path) -> None:
    page, html = render(derivatives)
    for tag, attributes in page.tags:
        for key in ('src', 'srcset', 'data', 'action', 'poster', 'background'):
            assert attributes.get(key, 'data:').startswith('data:'), (tag, attributes)
        href = attributes.get('href', '#')
        assert href.startswith(('#', 'https://doi.org/')), (tag, attributes)
        assert tag == 'a' or 'href' not in attributes
        assert not [key for key in attributes if key.startswith('on')]
    assert not {'link', 'iframe', 'object', 'base'} & {tag for tag, _ in page.tags}
    style = html[html.index('<style>') : html.index('</style>')]
    assert 'url(' not in style
    assert '@import' not in style
    policy = next(meta for meta in page.all('meta') if 'http-equiv' in meta)
    assert policy['content'].startswith("default-src 'none'")
    assert "; base-uri 'none'; form-action 'none'; " in policy['content']
    (script,) = re.findall(r'<script>(.*?)</script>', html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy['content'].endswith(f"script-src 'sha256-{digest}'")


def test_volumes_are_those_of_the_table(derivatives: Path) -> None:
    page, _ = render(derivatives)
    rows = [row[:7] for row in page.rows]
    assert ['', '1', 'White Matter', '10', '12.5', '0.01', '25.13'] in rows
    assert ['', '2', 'Grey Matter', '30', '37.2', '0.04', '74.87'] in rows
    assert ['', '', 'All labels', '', '49.8', '0.05', '', ''] in page.rows


def test_tissue_mask_and_intracranial_volume_are_told_apart(
    derivatives: Path, add_result: Add, sidecar_facts: Facts
) -> None:
    volumes = (
        'index\tname\tvoxels\tvolume\n1\tWhite Matter\t1\t500000\n2\tGrey Matter\t1\t776000\n'
    )
    sidecar = json.dumps(sidecar_facts(BrainVolume=1_716_000.0, IntracranialVolume=1_801_000.0))
    add_result('sub-01_T1w', volumes=volumes, sidecar=sidecar)
    page, html = render(derivatives)
    assert 'Grey and white matter</dt><dd>1.28 L<' in html
    assert 'Brain mask</dt><dd>1.72 L<' in html
    assert 'grey and white matter 1,276.0 mL' in page.text
    assert 'brain mask, which includes fluid between gyri, 1,716.0 mL' in page.text
    assert 'intracranial volume (eTIV) 1,801.0 mL' in page.text
    assert 'not a medical device' in page.text
    assert 'is provisional' not in page.text


def test_brain_measures_have_freesurfers_names(
    derivatives: Path, add_result: Add, sidecar_facts: Facts
) -> None:
    measures = {'Cortex': 522_193.7, 'TotalGray': 'much', 'New <b>': 1000.0}
    add_result('sub-01_T1w', sidecar=json.dumps(sidecar_facts(BrainMeasures=measures)))
    page, _ = render(derivatives)
    assert ['Cortex', '522.19', 'Cortex of both hemispheres'] in page.rows
    assert ['New-<b>', '1.00', ''] in page.rows
    assert "TotalGray is 'much', no number" in page.text


def test_a_provisional_model_is_named_at_the_head(
    derivatives: Path, add_result: Add, sidecar_facts: Facts
) -> None:
    model = {'Name': 'm', 'SHA256': 'ab' * 32, 'Status': 'provisional'}
    add_result('sub-01_T1w', sidecar=json.dumps(sidecar_facts(Model=model)))
    page, _ = render(derivatives)
    head = page.text[: page.text.index('Labels on the scan')]
    assert 'The model m is provisional.' in head


def test_the_pictures_are_inside_and_described_in_words(derivatives: Path) -> None:
    page, _ = render(derivatives)
    names = ('seg-gw_desc-cuts_dseg', 'seg-gw_desc-labels_dseg', 'seg-gw_desc-outline_dseg')
    names += ('desc-conform_T1w',)
    for image, name in zip(page.all('img'), names, strict=True):
        content = base64.b64decode(image['src'].removeprefix('data:image/webp;base64,'))
        assert content == (derivatives / f'sub-01/figures/sub-01_{name}.webp').read_bytes()
    assert 'White Matter, Grey' in page.all('img')[0]['alt']
    colours = [span['style'] for span in page.all('span') if 'style' in span]
    assert colours == ['background:#ffffff', 'background:#cd3e4e'] * 2


def test_facts_of_the_run_are_shown(
    derivatives: Path, add_result: Add, sidecar_facts: Facts
) -> None:
    add_result('sub-01_T1w', sidecar=json.dumps(sidecar_facts(Warnings=['qform is odd'])))
    page, _ = render(derivatives)
    for fact in (
        'model5_gw_ae',
        'ab' * 32,
        'minmax',
        'keras 3.15.1 on tensorflow 2.21.0',
        '12 components, 3,450 voxels',
        'brainchop-bids 0.2.0',
        '1.23 L',
        'qform is odd',
        'Setting frame',
        '4 × 5 × 6',
    ):
        assert fact in page.text, fact
    assert ['conform', '0.8', '–'] in page.rows
    assert ['segment', '9.1', '2,100'] in page.rows


def test_flags_measures_and_marks_are_shown(
    derivatives: Path, add_result: Add, sidecar_facts: Facts
) -> None:
    flag = {'Name': 'brain-volume', 'Value': 0.61, 'Reason': 'The brain has 0.61 L.'}
    edited = sidecar_facts(
        Flags=[flag, 'odd', {'Name': 3}],
        Measures={'snr_gm': 12.345, 'own_measure': 2, 'bad': 'n/a', 'cjv': None},
        BrainVolume=1.2e6,
        PeakMemoryMB={'segment': 2100, 'quality': 200.4},
    )
    (derivatives / 'seg-gw_dseg.tsv').write_text(
        'index\tname\tcolor\tmapping\tfreesurfer\n1\tLeft-Hippocampus\t#ffffff\tn/a\t17\n'
    )
    table = 'index\tname\tvoxels\tvolume\n1\tLeft-Hippocampus\t300\t300.0\n'
    add_result('sub-01_run-2_T1w', sidecar=json.dumps(edited), volumes=table)
    (derivatives / 'seg-gw_dseg.tsv').write_text(
        'index\tname\tcolor\tmapping\tfreesurfer\n1\tLeft-Hippocampus\t#ffffff\tn/a\t17\n'
    )
    page, _ = render(derivatives)
    assert 'brain-volume: The brain has 0.61 L.' in page.text
    assert ['snr_gm', '12.35', 'signal to noise of grey matter; higher is better'] in page.rows
    assert ['own_measure', '2', ''] in page.rows
    assert 'cjv' not in page.text
    [row] = [row for row in page.rows if row[2:3] == ['Left-Hippocampus']]
    assert row[:-1] == ['', '1', 'Left-Hippocampus', '300', '300.0', '0.30', '100.00']
    assert row[-1].startswith('low0.025% of the brain; the limits are 0.')
    assert ['quality', '–', '200'] in page.rows
    # Nobody looked at the first one: nothing is said of flags. The second has some.
    assert 'No flags' not in page.text
    add_result('sub-01_run-3_T1w', sidecar=json.dumps(sidecar_facts(Flags=[])))
    assert render(derivatives)[0].text.count('No flags') == 1


def test_methods_and_references_are_ready_to_paste(derivatives: Path) -> None:
    page, _ = render(derivatives)
    assert (
        'Segmented with brainchop-bids 0.2.0 [1][2], as mri_convert -c does [@none].' in page.text
    )
    links = [link['href'] for link in page.all('a')]
    assert 'https://doi.org/10.3389/fninf.2011.00013' in links
    ids = {attributes['id'] for _, attributes in page.tags if 'id' in attributes}
    assert {link[1:] for link in links if link.startswith('#')} <= ids
    assert len(ids) == len([1 for _, attributes in page.tags if 'id' in attributes])


def test_the_page_can_be_read_aloud(derivatives: Path, add_result: Add) -> None:
    add_result('sub-01_run-2_T1w')
    page, html = render(derivatives)
    assert page.all('html')[0]['lang'] == 'en'
    assert len(page.all('h1')) == 1
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch('h[1-6]', tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all(cell.get('scope') in ('row', 'col') for cell in page.all('th'))
    # Layers over a picture need no text of their own.
    texts = [image['alt'] for image in page.all('img') if 'data-layer' not in image]
    assert len(texts) == 4
    assert all(texts)
    ids = {attributes['id'] for _, attributes in page.tags if 'id' in attributes}
    named = {
        attributes['aria-labelledby']
        for _, attributes in page.tags
        if 'aria-labelledby' in attributes
    }
    assert named <= ids
    assert '<main>' in html


@pytest.mark.parametrize('text', HOSTILE)
def test_hostile_text_is_shown_as_text(
    derivatives: Path, add_result: Add, sidecar_facts: Facts, text: str
) -> None:
    clean, _ = render(derivatives)
    edited = sidecar_facts(
        Sources=[f'bids:raw:{text}'],
        Model={'Name': text, 'SHA256': text, 'Normalization': text, 'Classes': text},
        Engine=text,
        Components={'Rule': text, 'RemovedVoxels': text},
        Warnings=[text],
        Seconds={text: 1.0},
        BrainVolume=text,
        Brainchop={'Version': text, 'Settings': {text: text}},
    )
    table = f'index\tname\tvoxels\tvolume\n1\t"{text.replace(chr(34), chr(34) * 2)}"\t1\t1\n'
    add_result('sub-01_T1w', sidecar=json.dumps(edited), volumes=table)
    (derivatives / 'dataset_description.json').write_text(json.dumps({'Name': text}))
    (derivatives / 'logs/CITATION.md').write_text(f'{text}\n\n- {text}\n\n- [@x] {text}\n')
    page, _ = render(derivatives)
    assert page.text.count(text) >= 12
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in clean.tags} | {'ul', 'li', 'div'}
    for tag, attributes in page.tags:
        assert not [key for key in attributes if key.startswith('on')], (tag, attributes)


def test_hostile_colours_never_reach_a_style(derivatives: Path) -> None:
    table = derivatives / 'seg-gw_dseg.tsv'
    table.write_text('index\tname\tcolor\n1\tA\t#fff;background:url(//x)\n2\tB\t#1234567\n')
    page, html = render(derivatives)
    assert 'url(' not in html
    assert not [span for span in page.all('span') if 'style' in span]


def test_characters_that_html_cannot_hold_are_replaced(
    derivatives: Path, add_result: Add, sidecar_facts: Facts
) -> None:
    edited = sidecar_facts(Warnings=['a\x00b\x1bc', 'lone \ud800 surrogate'])
    add_result('sub-01_T1w', sidecar=json.dumps(edited))
    page, _ = render(derivatives)
    assert 'a\ufffdb\ufffdc' in page.text
    assert r'lone \ud800 surrogate' in page.text


def test_a_broken_scan_has_its_place_beside_a_good_one(derivatives: Path, add_result: Add) -> None:
    anat = add_result('sub-01_run-2_T1w', sidecar='{', volumes='')
    (anat / 'sub-01_run-2_seg-gw_dseg.nii.gz').unlink()
    for name in ('seg-gw_desc-cuts_dseg', 'desc-conform_T1w'):
        (derivatives / f'sub-01/figures/sub-01_run-2_{name}.webp').write_text('no')
    (derivatives / 'sub-01/figures/sub-01_run-2_desc-slices_T1w.json').write_text('{"shape": 3}')
    (derivatives / 'logs/CITATION.md').unlink()
    (derivatives / 'dataset_description.json').write_text('[')
    page, _ = render(derivatives)
    for text in (
        'sub-01_run-2_T1w (not finished)',
        'cannot be read',
        'There is no picture of this scan',
        'No volumes are known',
        '(logs/CITATION.md) is missing',
    ):
        assert text in page.text, text
    assert len(page.all('img')) == 4
    assert len([1 for _, attributes in page.tags if 'data-viewer' in attributes]) == 1


def test_a_hundred_labels_stay_usable(derivatives: Path, add_result: Add) -> None:
    lines = [f'{index}\tctx-lh-area {index}\t{index}\t{index}.0\n' for index in range(1, 105)]
    add_result('sub-01_T1w', volumes='index\tname\tvoxels\tvolume\n' + ''.join(lines))
    page, _ = render(derivatives)
    assert ['', '104', 'ctx-lh-area 104', '104', '104.0', '0.10', '1.90', '–'] in page.rows
    assert 'class="legend"' not in page.text
    scrolling = [box for box in page.all('section') if box.get('class') == 'scroll']
    assert scrolling
    assert all(box['tabindex'] == '0' and box['aria-labelledby'] for box in scrolling)


def test_a_page_that_cannot_be_written_is_described_in_one_line(derivatives: Path) -> None:
    (derivatives / 'sub-01.html').mkdir()
    with pytest.raises(OutputError, match=r'sub-01\.html'):
        write_participant_page(derivatives, '01')
    assert not [path for path in derivatives.iterdir() if path.name.startswith('.')]


def test_a_page_is_replaced_whole(derivatives: Path) -> None:
    path = derivatives / 'sub-01.html'
    path.write_text('old')
    render(derivatives)
    first = path.read_bytes()
    assert first.endswith(b'</html>')
    render(derivatives)
    assert path.read_bytes() == first

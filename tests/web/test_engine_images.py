"""Reading, conforming and writing of images in the browser, against references and nibabel."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainchop_bids.image.conform import conform
from brainchop_bids.image.io import read_volume
from tests.web.engine import EngineError, ask, got

SCANS = {
    'ds000011_sub-01': 'data/ds000011/sub-01/anat/sub-01_T1w.nii.gz',
    'pumi': 'data/pumi-minitest/sub-001/anat/sub-001_T1w.nii.gz',
    'studyforrest': 'data/t1w/studyforrest-philips-dicom/T1w.nii.gz',
    'fnndsc-10yr': 'data/t1w/fnndsc-10yr-trio/T1w.nii.gz',
}
INPUTS = ('las_odd_i16', 'noform_i16', 'oblique_i16', 'slope_i16', 'tiny_f32')


# Scans of .7 mm take some seconds.
LARGE = ('studyforrest', 'fnndsc-10yr')


@pytest.mark.parametrize(
    'name',
    [
        pytest.param(name, marks=pytest.mark.slow if name in LARGE else ())
        for name in (*SCANS, *INPUTS)
    ],
)
def test_conform_reference(shared: Path, tmp_path: Path, name: str) -> None:
    path = shared / SCANS.get(name, f'reference/conform/inputs/{name}.nii.gz')
    reference = nib.load(shared / f'reference/conform/expected/{name}.mgz')
    out = tmp_path / 'conformed.raw'
    # One of the inputs is smaller than any head.
    found = ask('conform', scan={'path': path, 'shortest': 0}, out=out)
    assert found['dims'] == list(reference.shape)
    np.testing.assert_allclose(found['affine'], reference.affine, atol=1e-3)
    data = got(out, np.uint8, reference.shape)
    difference = np.abs(data.astype(int) - np.asarray(reference.dataobj))
    assert difference.max() <= 1
    assert np.mean(difference > 0) <= 1e-4
    ours = conform(read_volume(path), threads=2)
    np.testing.assert_array_equal(data, ours.data)
    said = [line.split(' ', 1)[0] for line in found['warnings']]
    assert said == [
        line.split(' ', 1)[0] for line in ours.warnings[len(read_volume(path).warnings) :]
    ]


AFFINES = {
    'plain': np.diag([1.5, 2, 1.75, 1]),
    'flipped': np.diag([-1.5, 2, 1.75, 1]) + np.eye(4, k=3) * 20,
    'oblique': nib.affines.from_matvec(
        nib.eulerangles.euler2mat(0.3, -0.2, 0.5) @ np.diag([1.5, 2, -1.75]), [10, -20, 30]
    ),
}


def volume(dtype: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    high = 100 if np.dtype(dtype).kind == 'f' else min(np.iinfo(dtype).max, 100_000)
    return (rng.random((24, 20, 22)) * high).astype(dtype)


KINDS = [
    ('uint8', nib.Nifti1Image, '<'), ('int8', nib.Nifti1Image, '<'),
    ('int16', nib.Nifti1Image, '>'), ('uint16', nib.Nifti2Image, '<'),
    ('int32', nib.Nifti1Image, '<'), ('float32', nib.Nifti2Image, '>'),
    ('float64', nib.Nifti1Image, '<'), ('uint32', nib.Nifti1Image, '<'),
    ('int64', nib.Nifti2Image, '<'), ('uint8', nib.MGHImage, '>'),
    ('float32', nib.MGHImage, '>'),
]  # fmt: skip


@pytest.mark.parametrize(
    ('dtype', 'kind', 'order', 'affine'),
    [
        *((*kind, 'oblique') for kind in KINDS),
        *((*kind, affine) for kind in KINDS[2::8] for affine in ('plain', 'flipped')),
    ],
)
def test_kinds_of_files(tmp_path: Path, dtype: str, kind: type, order: str, affine: str) -> None:
    is_mgh = kind is nib.MGHImage
    if is_mgh:
        img = kind(volume(dtype), AFFINES[affine])
    else:
        header = kind.header_class(endianness=order)
        img = kind(volume(dtype), AFFINES[affine], header, dtype=dtype)
        img.set_sform(AFFINES[affine], int(affine != 'flipped'))
        img.set_qform(AFFINES[affine], 1)
    path = tmp_path / ('scan.mgz' if is_mgh else 'scan.nii.gz')
    nib.save(img, path)
    found = ask('read', scan={'path': path}, out=tmp_path / 'out.raw')
    kept = {'int8': 'int16', 'float64': 'float32', 'uint32': 'float32', 'int64': 'float32'}
    data = got(tmp_path / 'out.raw', kept.get(dtype, dtype), img.shape)
    np.testing.assert_allclose(data, np.asarray(img.dataobj), rtol=1e-6)
    np.testing.assert_allclose(found['affine'], nib.load(path).affine, atol=1e-4)
    assert found['warnings'] == []


def test_scaled_values_and_an_offset(tmp_path: Path) -> None:
    img = nib.Nifti1Image(volume('int16'), AFFINES['plain'])
    img.header.set_slope_inter(0.25, -7)
    nib.save(img, tmp_path / 'scan.nii')
    ask('read', scan={'path': tmp_path / 'scan.nii'}, out=tmp_path / 'out.raw')
    data = got(tmp_path / 'out.raw', np.float32, img.shape)
    np.testing.assert_allclose(data, nib.load(tmp_path / 'scan.nii').get_fdata(), rtol=1e-6)


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    data = volume('float32')
    data[3, 4, 5], data[4, 4, 4] = np.nan, -np.inf
    nib.save(nib.Nifti1Image(data, AFFINES['plain']), tmp_path / 'scan.nii')
    found = ask('read', scan={'path': tmp_path / 'scan.nii'}, out=tmp_path / 'out.raw')
    expected = np.nan_to_num(data, nan=0, posinf=0, neginf=0)
    np.testing.assert_array_equal(got(tmp_path / 'out.raw', np.float32, data.shape), expected)
    assert '2 values that are not finite' in found['warnings'][0]


@pytest.mark.parametrize(
    ('name', 'content', 'said'),
    [
        ('empty.nii.gz', b'', 'is empty'),
        ('text.nii', b'no image, but text that is longer than a header' * 30, 'not a NIfTI image'),
        ('text.mgz', b'no image, but text that is longer than a header' * 30, 'not an MGH image'),
        ('gzip.nii.gz', b'\x1f\x8b\x08\x00' + b'broken' * 50, 'damaged or cut short'),
    ],
)
def test_files_that_are_no_images(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    refused(tmp_path, tmp_path / name, said)


def refused(folder: Path, path: Path, said: str) -> None:
    with pytest.raises(EngineError) as error:
        ask('read', scan={'path': path}, out=folder / 'out.raw')
    kind, message = error.value.args
    assert kind == 'UserError'
    assert message.startswith(f'{path.name}: ')
    assert said in message
    assert '\n' not in message


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (lambda img, data: data[: len(data) // 2], 'cut short'),
        (lambda img, data: data[:100], 'cut short inside its header'),
        (lambda img, data: data[:70] + b'\x80\x00' + data[72:], 'colours'),
        (lambda img, data: data[:123] + b'\x01' + data[124:], 'longer than that of any head'),
        (lambda img, data: data[:42] + b'\x01\x00' + data[44:], '2-D slice'),
        (lambda img, data: data[:352] + bytes(len(data) - 352), 'every voxel is 0'),
    ],
)
def test_broken_scans(tmp_path: Path, change, said: str) -> None:
    img = nib.Nifti1Image(volume('int16'), AFFINES['plain'])
    (tmp_path / 'scan.nii').write_bytes(change(img, img.to_bytes()))
    refused(tmp_path, tmp_path / 'scan.nii', said)


def test_frames_are_refused(tmp_path: Path) -> None:
    nib.save(
        nib.Nifti1Image(np.stack([volume('int16')] * 2, -1), np.diag([2, 2, 2, 1])),
        tmp_path / 'a.nii',
    )
    refused(tmp_path, tmp_path / 'a.nii', 'has 2 frames')


@pytest.mark.parametrize('order', '<>')
@pytest.mark.parametrize('dtype', ['uint8', 'int16'])
def test_written_images(tmp_path: Path, dtype: str, order: str) -> None:
    data = volume(dtype)
    img = nib.Nifti1Image(
        data, AFFINES['oblique'], nib.Nifti1Header(endianness=order), dtype=dtype
    )
    img.set_sform(AFFINES['oblique'], 2)
    img.header['descrip'] = b'a name that is not to be copied'
    nib.save(img, tmp_path / 'scan.nii')
    out = tmp_path / 'copy.nii.gz'
    labels = [{'index': i, 'name': f'<{i}>', 'color': '#ff8000'} for i in range(3)]
    ask('copy', scan={'path': tmp_path / 'scan.nii'}, out=out, labels=labels)
    copy, anew = nib.load(out), nib.load(f'{out}.anew.nii.gz')
    for found in (copy, anew):
        np.testing.assert_array_equal(np.asarray(found.dataobj), data)
        np.testing.assert_allclose(found.get_sform(), AFFINES['oblique'], atol=1e-5)
        np.testing.assert_allclose(found.get_qform(), AFFINES['oblique'], atol=1e-4)
    assert int(copy.header['sform_code']) == 2
    assert copy.header['descrip'].item() == b''
    assert copy.header.get_intent()[0] == 'label'
    assert [one.get_code() for one in copy.header.extensions] == [30]
    assert b'>&lt;2&gt;</Label>' in gzip.decompress(out.read_bytes())[:2000]


@pytest.mark.parametrize('every', [2, 3])
@pytest.mark.parametrize('affine', AFFINES.values(), ids=AFFINES)
def test_a_large_scan_is_shown_by_every_second_voxel(
    tmp_path: Path, affine: np.ndarray, every: int
) -> None:
    image = nib.Nifti1Image(volume('int16')[:23], affine)
    nib.save(image, tmp_path / 'scan.nii.gz')
    out = tmp_path / 'shown.raw'
    found = ask('thinned', scan={'path': tmp_path / 'scan.nii.gz'}, every=every, out=out)
    expected = image.slicer[::every, ::every, ::every]
    assert found['dims'] == list(expected.shape)
    np.testing.assert_allclose(found['affine'], expected.affine, atol=1e-4)
    np.testing.assert_array_equal(got(out, np.int16, expected.shape), np.asarray(expected.dataobj))

"""Reading and writing, against nibabel, and every bad input that has been met."""

import gzip
import os
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainchop_bids.image import blocks, headers
from brainchop_bids.image.io import (
    Volume,
    load_labels,
    read_geometry,
    read_volume,
    require_contrast,
    save_nifti,
)
from brainchop_bids.system.errors import InputError, OutputError

SHAPE = (5, 6, 7)
AFFINE = np.array([[0.0, 0, 1.5, -3], [-1.25, 0, 0, 4], [0, 2, 0, 5], [0, 0, 0, 1]])
DATA = np.random.default_rng(0).integers(0, 120, SHAPE)


def write(path: Path, data=DATA, dtype=np.int16, affine=AFFINE, kind=nib.Nifti1Image, **fields):
    """Write with nibabel, then set header fields in the file's own bytes."""
    data = np.asarray(data).astype(dtype)
    if kind is nib.MGHImage:
        image = kind(data, affine)
        image.to_filename(path)
        return path
    image = kind(data, affine, dtype=dtype)
    image.header.set_xyzt_units('mm')
    plain = path.with_name('plain.nii')
    image.to_filename(plain)
    content = plain.read_bytes()
    header = type(image.header)(content[: image.header.sizeof_hdr], check=False)
    for name, value in fields.items():
        header[name] = value
    content = header.binaryblock + content[image.header.sizeof_hdr :]
    path.write_bytes(gzip.compress(content) if path.suffix == '.gz' else content)
    return path


@pytest.mark.parametrize('name', ['a.nii', 'a.nii.gz', 'a.mgh', 'a.mgz'])
@pytest.mark.parametrize('dtype', [np.uint8, np.int16, np.int32, np.float32])
def test_values_and_grid_as_nibabel_reads_them(tmp_path, name, dtype):
    kind = nib.MGHImage if '.mg' in name else nib.Nifti1Image
    path = write(tmp_path / name, dtype=dtype, kind=kind)
    volume, image = read_volume(path), nib.load(path)
    assert volume.data.dtype == dtype
    assert volume.data.dtype.isnative
    np.testing.assert_array_equal(volume.data, np.asarray(image.dataobj))
    np.testing.assert_allclose(volume.geometry.affine, image.affine, atol=1e-5)
    assert (volume.warnings, volume.path) == ((), path)
    assert read_geometry(path)[0].matches(volume.geometry, 0)


@pytest.mark.parametrize('kind', [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize('order', '<>')
def test_both_versions_and_byte_orders(tmp_path, kind, order):
    header = kind.header_class(endianness=order)
    header.set_data_dtype(np.dtype(np.int16).newbyteorder(order))
    kind(DATA.astype(np.int16), AFFINE, header).to_filename(tmp_path / 'a.nii')
    volume = read_volume(tmp_path / 'a.nii')
    np.testing.assert_array_equal(volume.data, DATA)
    assert volume.data.dtype == np.int16


@pytest.mark.parametrize(
    ('stored', 'read'),
    [
        (np.int8, np.int16),
        (np.uint16, np.uint16),
        (np.uint32, np.float32),
        (np.int64, np.float32),
        (np.uint64, np.float32),
        (np.float64, np.float32),
    ],
)
def test_other_types_are_widened(tmp_path, stored, read):
    volume = read_volume(write(tmp_path / 'a.nii', dtype=stored))
    assert volume.data.dtype == read
    np.testing.assert_array_equal(volume.data, DATA)


@pytest.mark.parametrize(
    ('slope', 'inter', 'scaled'),
    [(0, 5, False), (1, 0, False), (np.nan, np.nan, False), (0.37, -12.5, True), (1, 2, True)],
)
def test_scaling_in_float32(tmp_path, slope, inter, scaled):
    volume = read_volume(write(tmp_path / 'a.nii', scl_slope=slope, scl_inter=inter))
    if not scaled:
        assert volume.data.dtype == np.int16
        np.testing.assert_array_equal(volume.data, DATA)
        return
    expected = np.float32(slope) * DATA.astype(np.float32) + np.float32(inter)
    assert volume.data.dtype == np.float32
    np.testing.assert_array_equal(volume.data, expected)


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_values_that_are_not_finite_become_zero(tmp_path, dtype):
    data = DATA.astype(dtype)
    data[0, 0, 0], data[1, 1, 1], data[2, 2, 2] = np.nan, np.inf, -np.inf
    volume = read_volume(write(tmp_path / 'a.nii.gz', data, dtype))
    assert volume.data[0, 0, 0] == volume.data[1, 1, 1] == volume.data[2, 2, 2] == 0
    assert len(volume.warnings) == 1
    assert volume.warnings[0].startswith('3 values')


def test_the_sform_wins_and_pixdim_gives_the_sizes(tmp_path):
    path = write(tmp_path / 'a.nii', pixdim=[1, 1, 1, 2, 0, 0, 0, 0], sform_code=1, qform_code=2)
    geometry, warnings = read_geometry(path)
    np.testing.assert_array_equal(geometry.zooms, [1, 1, 2])
    np.testing.assert_allclose(geometry.cosines, AFFINE[:3, :3] / [1.25, 2, 1.5], atol=1e-6)
    assert 'pixdim was used' in warnings[0]
    assert 'sform and qform disagree' in warnings[1]


def test_the_qform_where_there_is_no_sform(tmp_path):
    path = write(tmp_path / 'a.nii', sform_code=0, qform_code=1)
    geometry, warnings = read_geometry(path)
    np.testing.assert_allclose(geometry.affine, nib.load(path).get_qform(), atol=1e-5)
    assert warnings == ()


def test_neither_form_is_a_guess_with_a_warning(tmp_path):
    geometry, warnings = read_geometry(write(tmp_path / 'a.nii', sform_code=0, qform_code=0))
    np.testing.assert_array_equal(geometry.cosines, np.diag([-1, 1, 1]))
    np.testing.assert_array_equal(geometry.c_ras, np.array([1.25, 2, 1.5]) * SHAPE / 2)
    assert 'guess' in warnings[0]


@pytest.mark.parametrize(('units', 'factor'), [(0, 1), (1, 1000), (2, 1), (3, 0.001), (10, 1)])
def test_units(tmp_path, units, factor):
    geometry, _ = read_geometry(write(tmp_path / 'a.nii', xyzt_units=units))
    np.testing.assert_allclose(geometry.affine[:3], AFFINE[:3] * factor, rtol=1e-5)


def test_negative_voxel_sizes_are_taken_without_sign(tmp_path):
    geometry, warnings = read_geometry(
        write(tmp_path / 'a.nii', pixdim=[1, -1.25, 2, 1.5, 0, 0, 0, 0])
    )
    assert geometry.zooms[0] == 1.25
    assert 'sign' in warnings[0]


@pytest.mark.parametrize('shape', [(*SHAPE, 1), (*SHAPE, 1, 1)])
def test_one_frame_of_four_or_five_dimensions(tmp_path, shape):
    path = write(tmp_path / 'a.nii.gz', DATA.reshape(shape))
    np.testing.assert_array_equal(read_volume(path).data, DATA)
    np.testing.assert_array_equal(read_volume(path, frame=0).data, DATA)


@pytest.mark.parametrize('name', ['a.nii', 'a.nii.gz', 'a.mgz'])
def test_a_frame_can_be_chosen(tmp_path, name):
    kind = nib.MGHImage if name == 'a.mgz' else nib.Nifti1Image
    path = write(tmp_path / name, np.stack([DATA, DATA + 1, DATA + 2], axis=-1), kind=kind)
    np.testing.assert_array_equal(read_volume(path, frame=2).data, DATA + 2)
    with pytest.raises(InputError, match=r'3 frames.*--frame'):
        read_volume(path)
    for frame in (3, -1):
        with pytest.raises(InputError, match=rf'no frame {frame}.*--frame'):
            read_volume(path, frame=frame)


def test_a_name_that_lies_about_compression_is_a_warning(tmp_path):
    plain = write(tmp_path / 'a.nii')
    content = plain.read_bytes()
    (tmp_path / 'b.nii.gz').write_bytes(content)
    (tmp_path / 'c.nii').write_bytes(gzip.compress(content))
    for name in ('b.nii.gz', 'c.nii'):
        volume = read_volume(tmp_path / name)
        np.testing.assert_array_equal(volume.data, DATA)
        assert 'despite its name' in volume.warnings[0]


def test_several_gzip_members_and_padding(tmp_path):
    content = write(tmp_path / 'a.nii').read_bytes()
    packed = gzip.compress(content[:400]) + gzip.compress(content[400:]) + bytes(64)
    (tmp_path / 'b.nii.gz').write_bytes(packed)
    np.testing.assert_array_equal(read_volume(tmp_path / 'b.nii.gz').data, DATA)


def test_mgh_without_a_good_ras_flag(tmp_path):
    path = write(tmp_path / 'a.mgh', kind=nib.MGHImage)
    content = bytearray(path.read_bytes())
    content[28:30] = bytes(2)
    path.write_bytes(content)
    geometry, _ = read_geometry(path)
    assert geometry.orientation == 'LIA'
    np.testing.assert_array_equal(geometry.c_ras, 0)


BAD = {
    'missing.nii.gz': (None, 'no such file'),
    'empty.nii.gz': (b'', 'is empty'),
    'empty.mgz': (b'', 'is empty'),
    'text.nii.gz': (b'subject,age\n01,30\n' * 50, 'neither gzip nor a NIfTI'),
    'text.nii': (b'hello', 'neither gzip nor a NIfTI'),
    'text.mgz': (gzip.compress(b'hello' * 100), 'not an MGH'),
    'packedtext.nii.gz': (gzip.compress(b'hello' * 100), 'not a NIfTI'),
    'scan.img': (b'x' * 400, 'give the .hdr file'),
    'scan.txt': (b'x' * 400, 'not a known kind'),
}


def one_line(error: pytest.ExceptionInfo, path: Path) -> str:
    message = str(error.value)
    assert message.startswith(str(path))
    assert '\n' not in message
    assert not re.search(r'Traceback|Error\b|object at', message)
    assert '; ' in message  # what to do
    return message


@pytest.mark.parametrize('name', BAD)
def test_files_that_are_no_images(tmp_path, name):
    content, says = BAD[name]
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    for read in (read_volume, read_geometry):
        with pytest.raises(InputError) as error:
            read(path)
        assert says in one_line(error, path)


def test_a_folder(tmp_path):
    path = tmp_path / 'a.nii.gz'
    path.mkdir()
    with pytest.raises(InputError) as error:
        read_volume(path)
    assert 'is a folder' in one_line(error, path)


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read everything')
def test_no_permission(tmp_path):
    path = write(tmp_path / 'a.nii')
    path.chmod(0)
    with pytest.raises(InputError) as error:
        read_volume(path)
    assert 'Permission denied' in one_line(error, path)


def test_no_permission_whoever_asks(tmp_path, monkeypatch):
    path = write(tmp_path / 'a.nii')

    def refuse(*_):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(headers.Path, 'open', refuse)
    with pytest.raises(InputError) as error:
        read_volume(path)
    assert 'Permission denied' in one_line(error, path)


@pytest.mark.parametrize('name', ['a.nii', 'a.nii.gz', 'a.mgh', 'a.mgz'])
def test_every_way_to_cut_a_file_short(tmp_path, name):
    kind = nib.MGHImage if '.mg' in name else nib.Nifti1Image
    path = write(tmp_path / name, kind=kind)
    whole = path.read_bytes()
    # Behind an MGH file's voxels there is a footer that nobody needs.
    needed = {'a.nii': 352 + 420, 'a.mgh': 284 + 420}.get(name, len(whole))
    for length in [1, 2, 3, 5, 11, 20, 50, 100, 283, 300, 347, 351, 400, needed - 9, needed - 1]:
        if length >= needed:
            continue
        path.write_bytes(whole[:length])
        with pytest.raises(InputError) as error:
            read_volume(path)
        assert re.search('cut short|neither gzip|damaged', one_line(error, path))


def test_a_flipped_bit_is_found(tmp_path):
    path = write(tmp_path / 'a.nii.gz')
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # the checksum
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_volume(path)
    assert 'damaged' in one_line(error, path)


_QFORM = {'sform_code': 0, 'qform_code': 1}
FIELDS = {
    'complex': ({'datatype': 32, 'bitpix': 64}, 'complex'),
    'rgb': ({'datatype': 128, 'bitpix': 24}, 'RGB'),
    'rgba': ({'datatype': 2304, 'bitpix': 32}, 'RGB'),
    'type': ({'datatype': 77}, 'data type code 77'),
    'slice': ({'dim': [3, 5, 42, 1, 1, 1, 1, 1]}, '2-D slice'),
    'plane': ({'dim': [2, 14, 15, 1, 1, 1, 1, 1]}, '2-D slice'),
    'none': ({'dim': [0, 5, 6, 7, 1, 1, 1, 1]}, '0 dimensions'),
    'zero': ({'dim': [3, 5, 0, 7, 1, 1, 1, 1]}, 'dimensions 5 x 0 x 7'),
    'many': ({'dim': [6, 5, 6, 1, 1, 1, 7, 1]}, '2-D slice'),
    'six': ({'dim': [6, 5, 2, 3, 1, 1, 7, 1]}, 'frames'),
    'huge': ({'dim': [3, 32000, 32000, 32000, 1, 1, 1, 1]}, 'cut short'),
    'sizes': ({'pixdim': [1, 1, 0, 1, 0, 0, 0, 0], **_QFORM}, 'voxel sizes'),
    'nan': ({'pixdim': [1, 1, np.nan, 1, 0, 0, 0, 0], **_QFORM}, 'voxel sizes'),
    'inf': ({'pixdim': [1, 1, np.inf, 1, 0, 0, 0, 0], **_QFORM}, 'voxel sizes'),
    'column': ({'srow_x': 0, 'srow_y': 0, 'srow_z': 0}, 'singular'),
    'flat': ({'srow_z': [0, 0, 0, 0]}, 'singular'),
    'nowhere': ({'srow_z': [0, 2, 0, np.nan]}, 'not finite'),
    'quaternion': ({'sform_code': 0, 'qform_code': 1, 'quatern_b': np.nan}, 'not finite'),
    'offset': ({'sform_code': 0, 'qform_code': 1, 'qoffset_x': np.inf}, 'not finite'),
    'units': ({'xyzt_units': 5}, 'unit of length'),
    'inter': ({'scl_slope': 2, 'scl_inter': np.nan}, 'scl_inter'),
}


@pytest.mark.parametrize('case', FIELDS)
def test_headers_that_cannot_be_used(tmp_path, case, caplog):
    fields, says = FIELDS[case]
    path = write(tmp_path / 'a.nii.gz', **fields)
    with pytest.raises(InputError) as error:
        read_volume(path)
    assert says in one_line(error, path)
    assert not caplog.records


def test_a_singular_mgh(tmp_path):
    path = write(tmp_path / 'a.mgh', kind=nib.MGHImage)
    content = bytearray(path.read_bytes())
    content[42:54] = bytes(12)  # the first direction
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_volume(path)
    assert 'singular' in one_line(error, path)


@pytest.mark.parametrize('value', [0, 9])
def test_constant_images_have_no_contrast(tmp_path, value):
    path = write(tmp_path / 'a.nii', np.full(SHAPE, value))
    with pytest.raises(InputError) as error:
        require_contrast(read_volume(path))
    assert f'every voxel is {value}' in one_line(error, path)
    require_contrast(Volume(DATA, read_geometry(path)[0]))


@pytest.mark.parametrize('name', ['o.nii', 'o.nii.gz'])
@pytest.mark.parametrize('dtype', [np.uint8, np.int16, np.float32, bool])
def test_saved_images_as_nibabel_reads_them(tmp_path, name, dtype):
    data = DATA.astype(dtype)
    for array in (data, np.asfortranarray(data), data[::-1]):
        path = save_nifti(tmp_path / name, array, affine=AFFINE, description='made here')
        image = nib.load(path)
        np.testing.assert_array_equal(np.asarray(image.dataobj), array)
        np.testing.assert_allclose(image.affine, AFFINE, atol=1e-6)
        np.testing.assert_allclose(image.get_qform(), AFFINE, atol=1e-6)
        header = image.header
        assert (int(header['sform_code']), int(header['qform_code'])) == (1, 1)
        assert header.get_xyzt_units()[0] == 'mm'
        assert bytes(header['descrip']).rstrip(b'\0') == b'made here'
        assert nib.Nifti1Header.from_fileobj(image.file_map['image'].get_prepare_fileobj('rb'))


@pytest.mark.parametrize(
    ('top', 'dtype'), [(1, np.uint8), (255, np.uint8), (256, np.uint16), (70000, np.uint32)]
)
def test_labels_take_the_smallest_type(tmp_path, top, dtype):
    data = np.zeros(SHAPE, dtype=np.int64)
    data[1, 2, 3] = top
    path = save_nifti(tmp_path / 'l.nii.gz', data, affine=AFFINE, labels=True)
    image = nib.load(path)
    assert image.get_data_dtype() == dtype
    assert int(image.header['intent_code']) == 1002
    assert (image.dataobj.slope, image.dataobj.inter) == (1, 0)
    labels, geometry = load_labels(path)
    assert labels.dtype == dtype
    np.testing.assert_array_equal(labels, data)
    np.testing.assert_allclose(geometry.affine, AFFINE, atol=1e-5)


COPIED = [
    *('srow_x', 'srow_y', 'srow_z', 'sform_code', 'qform_code', 'xyzt_units'),
    *('quatern_b', 'quatern_c', 'quatern_d', 'qoffset_x', 'qoffset_y', 'qoffset_z'),
]


@pytest.mark.parametrize('kind', [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize(('sform', 'qform'), [(1, 1), (2, 0), (0, 3), (0, 0), (4, 1)])
def test_like_copies_the_grid_to_the_last_bit(tmp_path, kind, sform, qform):
    like = write(
        tmp_path / 'in.nii.gz',
        kind=kind,
        sform_code=sform,
        qform_code=qform,
        xyzt_units=10,
        srow_x=[0.1, 0.2, 1.4999999, 1 / 3],
        quatern_b=0.123456789,
        qoffset_x=-1 / 7,
    )
    path = save_nifti(tmp_path / 'out.nii.gz', DATA.astype(np.uint8), like=like, labels=True)
    one, other = nib.load(like).header, nib.load(path).header
    for name in COPIED:
        assert one[name].tobytes() == other[name].tobytes(), name
    assert one['pixdim'][:4].tobytes() == other['pixdim'][:4].tobytes()
    assert type(one) is type(other)


def test_like_an_mgz(tmp_path):
    like = write(tmp_path / 'in.mgz', kind=nib.MGHImage)
    path = save_nifti(tmp_path / 'out.nii', DATA.astype(np.uint8), like=like)
    np.testing.assert_allclose(nib.load(path).affine, nib.load(like).affine, atol=1e-5)
    assert read_geometry(path)[0].matches(read_geometry(like)[0])


def test_equal_images_are_equal_files(tmp_path, monkeypatch):
    one = save_nifti(tmp_path / 'one.nii.gz', DATA, affine=AFFINE).read_bytes()
    monkeypatch.setattr('time.time', lambda: 0.0)
    two = save_nifti(tmp_path / 'two.nii.gz', np.asfortranarray(DATA), affine=AFFINE).read_bytes()
    assert one == two


def test_nothing_is_left_when_the_disk_is_full(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(blocks, '_pour', full)
    path = tmp_path / 'o.nii.gz'
    with pytest.raises(OutputError) as error:
        save_nifti(path, DATA, affine=AFFINE)
    assert 'No space left' in one_line(error, path)
    assert not path.exists()


def test_places_that_cannot_be_written(tmp_path):
    for path in (tmp_path / 'nowhere' / 'o.nii', tmp_path):
        with pytest.raises(OutputError) as error:
            save_nifti(path, DATA, affine=AFFINE)
        one_line(error, path)
    assert tmp_path.is_dir()


def test_arguments_that_contradict(tmp_path):
    like = write(tmp_path / 'in.nii')
    with pytest.raises(ValueError, match='exactly one'):
        save_nifti(tmp_path / 'o.nii', DATA)
    with pytest.raises(ValueError, match='exactly one'):
        save_nifti(tmp_path / 'o.nii', DATA, affine=AFFINE, like=like)
    with pytest.raises(ValueError, match='expected'):
        save_nifti(tmp_path / 'o.nii', DATA[1:], like=like)
    with pytest.raises(ValueError, match='below 0'):
        save_nifti(tmp_path / 'o.nii', DATA - 500, affine=AFFINE, labels=True)


@pytest.mark.parametrize('shift', [0.5, -200])
def test_images_that_are_no_labels(tmp_path, shift):
    path = write(tmp_path / 'a.nii', DATA + shift, np.float32)
    with pytest.raises(InputError) as error:
        load_labels(path)
    assert 'no labels' in one_line(error, path)


def test_real_scans_read_as_nibabel_reads_them(shared):
    for path in [
        shared / 'data/pumi-minitest/sub-001/anat/sub-001_T1w.nii.gz',
        shared / 'data/ds000011/sub-02/anat/sub-02_T1w.nii.gz',
        shared / 'reference/conform/expected/pumi.mgz',
    ]:
        volume, image = read_volume(path), nib.load(path)
        np.testing.assert_array_equal(volume.data, np.asarray(image.dataobj))
        np.testing.assert_allclose(volume.geometry.affine, image.affine, atol=1e-3)

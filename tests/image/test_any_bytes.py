"""Whatever the bytes of a file are, it is read, or refused in one line that names it.

``BRAINCHOP_FUZZ=5000`` tries that many files; by default a few are tried.
"""

import gzip
import os
import time
import tracemalloc
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.freesurfer.mghformat import MGHHeader

from brainchop_bids.image.conform import conform
from brainchop_bids.image.io import read_geometry, read_volume, save_nifti
from brainchop_bids.inference.stages import read_scan
from brainchop_bids.system.errors import BrainchopError
from brainchop_bids.system.resources import Granted

TRIED = int(os.environ.get('BRAINCHOP_FUZZ', '150'))
SHAPE, ZOOM = (6, 7, 8), 20.0
DATA = np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.int16)
AFFINE = np.diag([-ZOOM, ZOOM, ZOOM, 1])
KINDS = {
    'nifti1': (nib.Nifti1Header, 'a.nii'),
    'nifti2': (nib.Nifti2Header, 'a.nii'),
    'pair': (nib.nifti1.Nifti1PairHeader, 'a.hdr'),
    'analyze': (nib.Spm2AnalyzeImage.header_class, 'a.hdr'),
    'mgh': (MGHHeader, 'a.mgh'),
}
WHOLE = [0, 1, 2, -1, 3, 4, 5, 7, 8, 16, 64, 255, 256, 1023, 16384, 1536, 32767, -32768]
WHOLE += [2**31 - 1, -(2**31), 2**62, 2**63 - 1, -(2**63)]
REAL = [np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45, 0.0, -1.0, 1.0, 20.0, 1e30, 1e18, 352.0]
REAL += [1e300, -1e300, 5e-324, 800.0, 1e5, 0.001]


def content(kind: str, changes: list, swapped: bool) -> tuple[bytes, bytes]:
    """Return the header of a valid image after changes of its fields, and the voxels."""
    maker, _ = KINDS[kind]
    header = maker() if kind == 'mgh' else maker(endianness='>' if swapped else '<')
    header.set_data_shape(SHAPE)
    if kind != 'mgh':
        header.set_data_dtype(np.int16)
    header.set_zooms((ZOOM,) * 3)
    if kind == 'mgh':
        header.set_data_dtype(np.int16)
    if kind in ('nifti1', 'nifti2', 'pair'):
        header.set_sform(AFFINE, 1)
        header.set_qform(AFFINE, 1)
        header.set_xyzt_units('mm')
        header['vox_offset'] = 0 if kind == 'pair' else int(header['sizeof_hdr']) + 4
    fields = header.structarr
    names = [name for name in fields.dtype.names if fields.dtype[name].base.kind in 'iuf']
    for place, whole, real in changes:
        name = names[place % len(names)]
        values = fields[name].reshape(-1) if fields[name].ndim else None
        value = real if fields.dtype[name].base.kind == 'f' else whole
        with np.errstate(all='ignore'):
            new = np.array(value).astype(fields.dtype[name].base)
        if values is None:
            fields[name] = new
        else:
            fields[name].flat[place // len(names) % values.size] = new
    order = '>' if swapped or kind == 'mgh' else '<'
    voxels = DATA.astype(f'{order}i2').tobytes(order='F')
    block = fields.tobytes()
    if kind == 'mgh':
        return block[:90].ljust(284, b'\0'), voxels
    return block + bytes(4) * (kind != 'pair' and kind != 'analyze'), voxels


@st.composite
def files(draw: st.DrawFn) -> tuple[str, dict[str, bytes]]:
    """Return the name of a file to read, and all files by their names."""
    kind = draw(st.sampled_from(list(KINDS)))
    change = st.tuples(st.integers(0, 2000), st.sampled_from(WHOLE), st.sampled_from(REAL))
    block, voxels = content(kind, draw(st.lists(change, max_size=4)), draw(st.booleans()))
    head = bytearray(block)
    for place, byte in draw(st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)))):
        if place < len(head):
            head[place] = byte
    name = KINDS[kind][1]
    tail = draw(st.sampled_from([b'', b'', bytes(40), voxels[:7]]))
    length = draw(st.sampled_from([None, None, None, -1, -300, 100, 350]))
    if name.endswith('.hdr'):
        return name, {name: bytes(head), 'a.img': (voxels + tail)[:length]}
    whole = (bytes(head) + voxels + tail)[:length]
    if draw(st.booleans()):
        name = 'a.mgz' if kind == 'mgh' else 'a.nii.gz'
        whole = gzip.compress(whole, 1)[: draw(st.sampled_from([None, None, -3, 30]))]
    return name, {name: whole}


def attempt(path: Path) -> str:
    """Read and conform a file; return the message of the error, if any."""
    try:
        geometry, _ = read_geometry(path)
        volume = read_volume(path)
        assert volume.geometry.matches(geometry, 0)
        assert volume.data.shape == geometry.shape
        assert np.isfinite(volume.data).all()
        assert np.isfinite(geometry.affine).all()
        saved = save_nifti(path.with_name('saved.nii'), volume.data, like=path)
        # Directions of an MGH header may be a thousandth longer than 1.
        size = np.abs(geometry.c_ras).max() + (geometry.zooms * geometry.shape).max()
        assert read_geometry(saved)[0].matches(geometry, 2e-3 * (1 + size))
        memory = Granted(1, 'test')
        assert conform(read_scan(path, memory=memory)).data.dtype == np.uint8
    except BrainchopError as error:
        return str(error)
    return ''


def test_any_file_is_read_or_refused_in_one_line(tmp_path: Path) -> None:
    told = {'read': 0, 'refused': 0, 'seconds': 0.0, 'MB': 0.0}

    @settings(max_examples=TRIED, deadline=None, suppress_health_check=list(HealthCheck))
    @given(files())
    def each(made: tuple[str, dict[str, bytes]]) -> None:
        name, contents = made
        for other, written in contents.items():
            (tmp_path / other).write_bytes(written)
        message, seconds, peak = watched(tmp_path / name)
        if message:
            assert message.startswith(tuple(f'{tmp_path / other}: ' for other in contents))
            assert '; ' in message
            assert '\n' not in message
        # A conformed grid has 17 MB; of 800 mm it has 512 MB.
        assert peak < 600
        assert seconds < 20
        told['refused' if message else 'read'] += 1
        told['seconds'], told['MB'] = max(told['seconds'], seconds), max(told['MB'], peak)

    each()
    assert told['read'] > TRIED // 20
    assert told['refused'] > TRIED // 20
    print(told)


def watched(path: Path) -> tuple[str, float, float]:
    """Return the message of `attempt`, its time in s and its peak of memory in MB."""
    tracemalloc.start()
    begun = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            message = attempt(path)
        return message, time.perf_counter() - begun, tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()

"""Voxels of a file as they are stored."""

import math
import zlib
from pathlib import Path

import numpy as np
from nibabel.freesurfer.mghformat import MGHHeader

from ..system.errors import InputError
from .extent import bad
from .headers import Header, read_header, zlib_reason
from .inflate import BEHIND, inflate, most_inflated


def chosen_frame(path: Path, frames: int, frame: int | None) -> int:
    """Return the number of the volume to read, and check that there is one.

    Parameters
    ----------
    path : Path
        Name of the image, for messages.
    frames : int
        Number of volumes.
    frame : int, optional
        Volume that was asked for, counted from 0.

    Raises
    ------
    InputError
        If there is no such volume, or there are several and none was asked for.
    """
    if frame is None:
        if frames > 1:
            raise bad(
                path,
                f'has {frames} frames',
                f'give one of them alone, or --frame 0 to {frames - 1} to brainchop or '
                'brainchop-segment',
            )
        return 0
    if not 0 <= frame < frames:
        raise bad(
            path,
            f'has no frame {frame} ({frames} in all)',
            f'choose one with --frame 0 to {frames - 1}',
        )
    return frame


def scan_header(path: Path | str, frame: int | None = None) -> Header:
    """Read the header of a scan and check that its file is long enough, without its voxels.

    Parameters
    ----------
    path, frame
        As for `read_volume`.

    Returns
    -------
    Header

    Raises
    ------
    InputError
        If `read_volume` could not read it, as far as the header and the file's length tell.
    """
    path = Path(path)
    header = read_header(path)
    _length(header.voxels or path, header, chosen_frame(path, header.frames, frame))
    return header


def _length(path: Path, header: Header, frame: int) -> int:
    """Return the length of a file in bytes, after a check that it can hold a frame."""
    try:
        length = path.stat().st_size
    except OSError as error:
        raise _unreadable(path, error) from None
    end = header.offset + (frame + 1) * header.frame_bytes
    if end > (most_inflated(length) if header.compressed else length):
        raise _short(path, length, end, header.compressed)
    return length


def read_stored(path: Path, header: Header, frame: int) -> tuple[np.ndarray, list[str]]:
    """Read one volume, and of a compressed file hardly more.

    Parameters
    ----------
    path : Path
        File with the voxels.
    header : Header
        Header of the image.
    frame : int
        Number of the volume.

    Returns
    -------
    stored : (X, Y, Z) array
        Values in the type and byte order of the file.
    warnings : list of str
        A line if other data follow the voxels.

    Raises
    ------
    InputError
        If the file cannot be read, is damaged or is too short.
    """
    size, start = header.frame_bytes, header.offset + frame * header.frame_bytes
    length = _length(path, header, frame)
    count = math.prod(header.geometry.shape)
    try:
        if header.compressed:
            content, length = inflate(path, start, size)
            values = np.frombuffer(content, header.dtype, len(content) // header.dtype.itemsize)
        else:
            values = np.fromfile(path, header.dtype, count, offset=start)
    except (EOFError, zlib.error) as error:
        advice = 'fetch or convert the scan again'
        raise bad(path, f'is damaged or cut short ({zlib_reason(error)})', advice) from None
    except OSError as error:
        raise _unreadable(path, error) from None
    if values.size < count:
        raise _short(path, length, start + size)
    return values.reshape(header.geometry.shape, order='F'), _behind(header, length)


def _behind(header: Header, length: int) -> list[str]:
    """Return a warning if a file is longer than its header says; MGH files have a footer."""
    behind = length - header.offset - header.frames * header.frame_bytes
    if behind <= 0 or isinstance(header.raw, MGHHeader):
        return []
    amount = 'over 16 MB' if header.compressed and behind > BEHIND else f'{behind} bytes'
    return [f'{amount} follow the voxels and were not used']


def _unreadable(path: Path, error: OSError) -> InputError:
    reason = error.strerror or type(error).__name__
    return bad(path, f'cannot be read ({reason})', 'check the disk')


def _short(path: Path, found: int, needed: int, compressed: bool = False) -> InputError:
    kind = 'compressed bytes' if compressed else 'bytes'
    amount = str(needed) if needed < 10**15 else f'{needed:.1e}'
    return bad(
        path,
        f'is cut short ({found} {kind} where its header needs {amount})',
        'fetch or convert the scan again',
    )

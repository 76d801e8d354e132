"""A small picture of a result, from the figures of its page."""

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from ...bids.derivatives import ScanOutputs
from .. import LABEL_ALPHA

_WIDTH = 480
_QUALITY = 45
# Where the first of three rows ends, as shares of the height: the axial cuts are the highest.
_ENDS = (0.3, 0.43)
_GAP = 11


def thumbnail(outputs: ScanOutputs) -> bytes | None:
    """Return the first row of a result's cuts, with its labels.

    Parameters
    ----------
    outputs : ScanOutputs
        Paths of the result.

    Returns
    -------
    bytes or None
        A WebP file of a few kB; None where the pictures are missing or cannot be read.
    """
    try:
        with warnings.catch_warnings():
            # A picture of a size that no figure has is refused, not unpacked.
            warnings.simplefilter('error', Image.DecompressionBombWarning)
            scan, labels = (_read_picture(outputs.figure(name)) for name in ('cuts', 'labels'))
            whole = flatten(scan, labels.convert('RGBA'))
    except (OSError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None
    row = whole.crop((0, 0, whole.width, _first_row(whole)))
    row.thumbnail((_WIDTH, _WIDTH), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    row.save(out, format='WEBP', quality=_QUALITY, method=4)
    return out.getvalue()


def flatten(scan: Image.Image, labels: Image.Image, alpha: float = LABEL_ALPHA) -> Image.Image:
    """Lay labels over cuts of the scan.

    Parameters
    ----------
    scan, labels : PIL.Image.Image
        Layers of a `brainchop_bids.reports.figures.mosaic.Mosaic`.
    alpha : float
        Opacity of the labels, from 0 to 1.

    Returns
    -------
    PIL.Image.Image
        RGB.
    """
    picture = scan.convert('RGB')
    cover = labels.getchannel('A').point([round(alpha * value) for value in range(256)])
    picture.paste(labels.convert('RGB'), mask=cover)
    return picture


def _read_picture(path: Path) -> Image.Image:
    with Image.open(path, formats=['WEBP']) as picture:
        picture.load()
        return picture


def _first_row(picture: Image.Image) -> int:
    """Return where the first row of cuts ends: the middle of the darkest gap about there."""
    light = np.asarray(picture.convert('L'), np.float32).mean(axis=1)
    smooth = np.convolve(light, np.ones(_GAP) / _GAP, mode='same')
    first, last = (round(end * picture.height) for end in _ENDS)
    return max(first + int(smooth[first : last + 1].argmin()), 1)

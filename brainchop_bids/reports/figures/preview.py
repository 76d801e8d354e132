"""A picture of one segmentation, for a look at it without a page."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from .mosaic import compose_mosaic
from .thumbnail import flatten


def draw_preview(
    image: np.ndarray,
    labels: np.ndarray,
    colors: Mapping[int, Sequence[int]],
    mask: np.ndarray | None,
    voxel_size: float = 1.0,
) -> Image.Image:
    """Draw cuts through a scan with its labels and the outline of the brain.

    Parameters
    ----------
    image, labels, colors, mask, voxel_size
        As for `compose_mosaic`.

    Returns
    -------
    PIL.Image.Image
        RGB: a row each of axial, coronal and sagittal cuts.
    """
    mosaic = compose_mosaic(image, labels, colors, mask=mask, voxel_size=voxel_size)
    picture = flatten(mosaic.scan, mosaic.labels)
    picture.paste(mosaic.outline.convert('RGB'), mask=mosaic.outline.getchannel('A'))
    return picture

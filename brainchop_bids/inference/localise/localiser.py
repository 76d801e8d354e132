"""Localisers: networks that find an organ in a scan within a second."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from scipy.special import softmax

from ...image.geometry import Geometry
from ...image.normalise import Normalization, normalise
from ...models.formats import read_network
from ...models.formats.openvino_files import load_openvino
from ...models.network import Network, fold_batchnorm
from ...models.spec import LOCALISE, ModelSpec
from ...system.errors import ModelError
from ..openvino_graph import GraphBuilder, compiled
from .frames import SIDE, Frames, shrink
from .orientation import VIEWS, Codes, find_orientation, symmetric
from .sector import Sector, find_sector

# Frames that are computed at once: more need more memory and are not faster.
BATCH = 64
# By how much the box is larger than what is found, since ends are right within some mm.
_MARGIN = 9.0
# Most times that a volume is looked at, each time only around what was found: by how much more, as
# a share of the organ's longest side, and only if the longest side shrinks by this factor.
_LOOKS = 3
_AROUND, _CLOSER = 0.2, 0.8
# Fewer pixels across a frame show nothing.
_LEAST_PIXELS = 4


@dataclass(frozen=True)
class Located:
    """What a localiser found in a volume.

    Parameters
    ----------
    sector : Sector or None
        The box around the organ; None if there is none.
    codes : tuple of 3 str or None
        Directions of the axes by what is seen, see `find_orientation`; None for models that do
        not tell.
    header_codes : tuple of 3 str
        Directions of the axes by the header, with ``R`` for both left and right.
    orientation_certainty : float
        See `find_orientation`.
    """

    sector: Sector | None
    codes: Codes | None
    header_codes: Codes
    orientation_certainty: float


class Localiser:
    """Finds an organ by its frames along all three axes.

    Parameters
    ----------
    network : Network
        A network of images of 64 x 64 pixels and one channel, with the classes background and
        organ, or background and one for each of `VIEWS`.
    normalization : Normalization
        Normalisation of the frames along an axis, all together.
    threads : int
        Number of threads.

    Attributes
    ----------
    logits : callable
        From normalised frames to logits, see `frame_runner`.

    Raises
    ------
    ModelError
        If it is not such a network, or cannot be compiled.
    """

    # Name of what it finds.
    organ = 'organ'

    def __init__(self, network: Network, normalization: Normalization, threads: int = 1) -> None:
        tells = network.classes in (2, 1 + len(VIEWS))
        if not (network.of_images and network.in_channels == 1 and tells):
            raise network.fault(
                'is no localiser; expected a network of images of one channel with 2 or '
                f'{1 + len(VIEWS)} classes'
            )
        self.network, self.normalization, self.threads = network, normalization, threads
        self.logits = frame_runner(network, threads)

    @classmethod
    def of(cls, spec: ModelSpec, threads: int = 1) -> 'Localiser':
        """Build the localiser of a model folder.

        Raises
        ------
        ModelError
            As the class, and if the task of the model is another one.
        """
        if not spec.localises:
            raise ModelError(
                f'{spec.folder}: is no localiser: its task is {spec.task or "not said"}, expected '
                f'{LOCALISE} (brainchop-models list shows that of each model)'
            )
        localiser = cls(read_network(spec.folder)[0], spec.normalization, threads)
        # With a class for each view, names have it after a hyphen.
        localiser.organ = list(spec.labels)[1].name.partition('-')[0]
        return localiser

    def __call__(self, data: np.ndarray, geometry: Geometry) -> Located:
        """Find the organ in a volume.

        Parameters
        ----------
        data : (X, Y, Z) array
            Intensities.
        geometry : Geometry
            Grid of the volume.

        Returns
        -------
        Located
        """
        zooms = tuple(float(zoom) for zoom in geometry.zooms)
        header = symmetric(nib.aff2axcodes(geometry.vox2ras))
        sector, views = self._look(data, zooms)
        longest = max(length * zoom for length, zoom in zip(data.shape, zooms, strict=True))
        for _ in range(_LOOKS - 1):
            if sector is None:
                break
            # Frames of less around the organ show it larger.
            near = sector.grown(_AROUND * max(sector.sides(zooms)), data.shape, zooms)
            if max(near.sides(zooms)) > _CLOSER * longest:
                break
            closer, views_closer = self._look(data[near.slices], zooms)
            if closer is None:
                break
            sector, views, longest = closer.moved(near), views_closer, max(near.sides(zooms))
        if sector is not None:
            sector = sector.grown(_MARGIN, data.shape, zooms)
        if sector is None or not views.any():
            return Located(sector, None, header, 0.0)
        codes, certainty = find_orientation(views)
        return Located(sector, codes, header, certainty)

    def _look(
        self, data: np.ndarray, zooms: tuple[float, ...]
    ) -> tuple[Sector | None, np.ndarray]:
        """Return the sector without margin, and how often each view is seen along each axis."""
        passes: list[tuple[Frames, np.ndarray]] = []
        views = np.zeros((3, len(VIEWS)))
        for axis in range(3):
            if not _worth_looking(data.shape, zooms, axis):
                continue
            frames = shrink(data, zooms, axis, self.threads).spaced(zooms[axis])
            probabilities = self.probabilities(frames.images)
            organ = 1 - probabilities[..., 0]
            if self.network.classes > 2:
                views[axis] = probabilities[organ > 0.5, 1:].sum(0)
                # A network of all views knows frames that are turned by 180 degrees as well.
                turned = self.probabilities(frames.images[:, ::-1, ::-1])
                organ = (organ + 1 - turned[:, ::-1, ::-1, 0]) / 2
            passes.append((frames, organ))
        return find_sector(passes, data.shape, zooms), views

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Return the class probabilities of frames.

        Parameters
        ----------
        images : (n, 64, 64) float32
            Intensities; they are normalised together.

        Returns
        -------
        (n, 64, 64, classes) float32
        """
        normal = normalise(images, self.normalization)
        found: np.ndarray = softmax(self.logits(normal), axis=-1)
        return found


def _worth_looking(shape: Sequence[int], zooms: Sequence[float], axis: int) -> bool:
    sides = [shape[n] * zooms[n] for n in range(3) if n != axis]
    return min(sides) * SIDE / max(sides) >= _LEAST_PIXELS


def frame_runner(
    network: Network, threads: int, batch: int = BATCH
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that computes the logits of normalised frames.

    Parameters
    ----------
    network : Network
        A network of images of one channel.
    threads : int
        Number of threads.
    batch : int
        Number of frames that are computed at once.

    Returns
    -------
    callable
        From (n, 64, 64) float32 to (n, 64, 64, classes) float32.
    """
    network = fold_batchnorm(network)
    builder = GraphBuilder(load_openvino())
    graphs: dict[int, Any] = {}

    def graph(count: int) -> Any:
        if count not in graphs:
            # Frames are planes of a volume whose kernels do not extend along its first axis.
            given = builder.parameter((1, 1, count, SIDE, SIDE))
            body = builder.channels_last(builder.body(network, given))
            graphs[count] = compiled(builder, [body], [given], str(network.source), threads)
        return graphs[count]

    def run(frames: np.ndarray) -> np.ndarray:
        logits = np.empty((*frames.shape, network.classes), np.float32)
        for start in range(0, len(frames), batch):
            part = np.ascontiguousarray(frames[start : start + batch])
            request = graph(len(part)).create_infer_request()
            request.infer({0: part[None, None]}, share_inputs=True)
            logits[start : start + len(part)] = request.get_output_tensor(0).data[0]
        return logits

    return run

"""Times of a localiser on this machine: of its network by engine and batch, and of shrinking."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...models.network import Network, fold_batchnorm
from ...system.errors import BrainchopError
from ...system.tensorflow_runtime import load_tensorflow
from .frames import SIDE, shrink
from .localiser import Localiser, frame_runner

# A body from shoulder to hip has 600 to 800 frames.
FRAMES = 800
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, FRAMES)
# Side of a frame as scanners store it, and its voxel sizes, mm.
_STORED, _ZOOMS = 512, (0.8, 0.8, 1.0)
# Repeats of a measurement, which ends early after so many seconds.
_LEAST, _MOST, _ENOUGH = 3, 15, 1.0
TABLE = ('step', 'engine', 'frames', 'seconds', 'seconds_per_frame')

Run = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Timing:
    """Time of one step.

    Parameters
    ----------
    step : str
        ``network``, ``shrink`` or ``shrink and network``.
    engine : str
        Library and version.
    frames : int
        Number of frames that it takes at once.
    seconds : float
        Median of all repeats.
    """

    step: str
    engine: str
    frames: int
    seconds: float

    def row(self) -> list[str]:
        """Return the row of `TABLE`."""
        each = self.seconds / self.frames
        return [
            self.step, self.engine, str(self.frames), f'{self.seconds:.6f}', f'{each:.8f}'
        ]  # fmt: skip


def time_engines(
    network: Network, frames: np.ndarray, threads: int, batches: Sequence[int] = BATCHES
) -> Iterator[Timing | str]:
    """Time a network on batches of frames, with each engine that is installed.

    Loading and compiling are not part of the times.

    Parameters
    ----------
    network : Network
        A network of images of one channel.
    frames : (n, 64, 64) float32 array
        Normalised frames; they are repeated where a batch is larger.
    threads : int
        Number of threads.
    batches : sequence of int
        Numbers of frames that are computed at once.

    Yields
    ------
    Timing or str
        One for each engine and batch, or the reason why an engine is left out.
    """
    network = fold_batchnorm(network)
    for name, make in _ENGINES.items():
        try:
            engine, run = make(network, threads, max(batches))
        except (BrainchopError, ImportError) as error:
            yield f'{name} is left out: {error}'
            continue
        for batch in batches:
            given = np.ascontiguousarray(np.resize(frames, (batch, SIDE, SIDE)))
            yield Timing('network', engine, batch, _median(run, given))


def time_shrinking(
    localiser: Localiser, count: int = FRAMES, side: int = _STORED
) -> Iterator[Timing]:
    """Time the way from the frames of a scan in memory to probabilities.

    Parameters
    ----------
    localiser : Localiser
        The localiser.
    count : int
        Number of frames.
    side : int
        Pixels along each side of a frame, int16.

    Yields
    ------
    Timing
        Of shrinking alone, and with the network, which computes frames as for any scan.
    """
    rng = np.random.default_rng(0)
    # Frames follow each other in memory, as in a NIfTI image.
    data = rng.integers(-1000, 2000, (count, side, side), np.int16).T
    threads = localiser.threads

    def shrunk(volume: np.ndarray) -> np.ndarray:
        return shrink(volume, _ZOOMS, 2, threads).images

    def whole(volume: np.ndarray) -> np.ndarray:
        return localiser.probabilities(shrunk(volume))

    for step, engine, work in (
        ('shrink', _numpy(), shrunk),
        ('shrink and network', _openvino(), whole),
    ):
        yield Timing(step, engine, count, _median(work, data))


def frames_of(data: np.ndarray | None, zooms: tuple[float, ...], threads: int) -> np.ndarray:
    """Return frames of a scan along its longest axis, or noise; (n, 64, 64) float32."""
    if data is None:
        return np.random.default_rng(0).random((BATCHES[-1], SIDE, SIDE), np.float32)
    return shrink(data, zooms, int(np.argmax(data.shape)), threads).images


def _median(work: Run, given: np.ndarray) -> float:
    # The first call compiles, and touches new memory.
    work(given)
    seconds: list[float] = []
    while len(seconds) < _LEAST or (len(seconds) < _MOST and sum(seconds) < _ENOUGH):
        began = time.perf_counter()
        work(given)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _numpy() -> str:
    return f'NumPy {np.__version__}'


def _openvino() -> str:
    import openvino

    return f'OpenVINO {openvino.__version__.partition("-")[0]}'


def _by_openvino(network: Network, threads: int, most: int) -> tuple[str, Run]:
    run = frame_runner(network, threads, most)
    return _openvino(), run


def _by_onnxruntime(network: Network, threads: int, most: int) -> tuple[str, Run]:
    import onnxruntime

    from ...models.formats.onnx_files import onnx_model

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        onnx_model(network), options, providers=['CPUExecutionProvider']
    )

    def run(frames: np.ndarray) -> np.ndarray:
        made: np.ndarray = session.run(None, {'input': frames[:, None]})[0]
        return made

    return f'ONNX Runtime {onnxruntime.__version__}', run


def _by_tensorflow(network: Network, threads: int, most: int) -> tuple[str, Run]:
    tensorflow = load_tensorflow(threads)
    # This imports Keras, whose backend must be set before.
    from ...models.keras_model import build_model

    model = build_model(network)
    signature = [tensorflow.TensorSpec((None, SIDE, SIDE, 1), tensorflow.float32)]
    graph = tensorflow.function(
        lambda given: model(given, training=False), input_signature=signature, autograph=False
    )

    def run(frames: np.ndarray) -> np.ndarray:
        made: np.ndarray = graph(tensorflow.constant(frames[..., None])).numpy()
        return made

    return f'TensorFlow {tensorflow.__version__}', run


_ENGINES: dict[str, Callable[[Network, int, int], tuple[str, Run]]] = {
    'OpenVINO': _by_openvino,
    'ONNX Runtime': _by_onnxruntime,
    'TensorFlow': _by_tensorflow,
}

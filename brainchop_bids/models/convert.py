"""Networks from one file format to another."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..system.atomic import publish
from ..system.errors import ModelError, SettingsError
from .formats.onnx_files import save_onnx
from .formats.openvino_files import save_openvino
from .formats.tfjs import save_tfjs
from .formats.torch_files import save_safetensors
from .network import Network, fold_batchnorm


def write_network(network: Network, form: str, folder: Path) -> None:
    """Write a network's file or files.

    Parameters
    ----------
    network : Network
        The network. Batch normalisation is folded where it can be.
    form : str
        One of `FORMATS`.
    folder : Path
        Gets the files.

    Raises
    ------
    SettingsError
        For a format that is not known, or that needs a package that is not installed.
    ModelError
        For a network that the format has no place for.
    OutputError
        Where the files cannot be written.
    """
    if form not in FORMATS:
        raise SettingsError(f'{form}: no format to write; expected one of {", ".join(FORMATS)}')
    try:
        network = fold_batchnorm(network)
    except ModelError:
        # Some formats can carry it.
        network = replace(network)
    _WRITERS[form](network, folder)


def _keras(suffix: str) -> Callable[[Network, Path], object]:
    def write(network: Network, folder: Path) -> None:
        from ..system.tensorflow_runtime import load_tensorflow

        load_tensorflow()
        from .keras_model import build_model

        model = build_model(network, network.input_shape)
        publish([(folder / f'model{suffix}', lambda path: model.save(path))])

    return write


_WRITERS: dict[str, Callable[[Network, Path], object]] = {
    'tfjs': save_tfjs,
    'keras': _keras('.keras'),
    'h5': _keras('.h5'),
    'safetensors': save_safetensors,
    'onnx': lambda network, folder: save_onnx(network, folder / 'model.onnx'),
    'openvino': lambda network, folder: save_openvino(network, folder / 'model.xml'),
}
FORMATS = tuple(_WRITERS)

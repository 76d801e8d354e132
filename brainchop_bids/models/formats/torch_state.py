"""PyTorch's state dicts, as safetensors or PyTorch's own archives, read without PyTorch.

An archive has a pickle, which can run any code when it is loaded. Here it is read by an unpickler
that can only build tensors and dictionaries, and refuses everything else.
"""

import pickle
import re
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from ...system.errors import ModelError

# Limit of the size of the pickle, which has no data of tensors.
_MAX_PICKLE = 1 << 24
_STORAGES = {
    'FloatStorage': 'f4',
    'DoubleStorage': 'f8',
    'HalfStorage': 'f2',
    'LongStorage': 'i8',
    'IntStorage': 'i4',
}
_NESTED = ('state_dict', 'model_state_dict', 'model')


def read_state(path: Path) -> dict[str, np.ndarray]:
    """Read a state dict.

    Parameters
    ----------
    path : Path
        safetensors or an archive of ``torch.save``, whatever its suffix.

    Returns
    -------
    dict of str to float32 array
        Convolution kernels in Keras' order of axes, (D, H, W, Cin, Cout); in the order of the
        layers' numbers.

    Raises
    ------
    ModelError
        If the file is damaged, or the pickle has more than tensors.
    """
    try:
        with path.open('rb') as file:
            zipped = file.read(4) == b'PK\x03\x04'
    except OSError as error:
        raise ModelError(f'{path}: cannot be read ({error.strerror})') from error
    state = _read_archive(path) if zipped else _read_safetensors(path)
    # Integers, such as counters of batches, are not needed for inference.
    state = {name: array for name, array in state.items() if array.dtype.kind == 'f'}
    if not state:
        raise ModelError(f'{path}: has no weights; expected a state dict')
    return {
        name: np.ascontiguousarray(
            array.transpose(2, 3, 4, 1, 0) if array.ndim == 5 else array, np.float32
        )
        for name, array in sorted(state.items(), key=lambda item: _natural(item[0]))
    }


def _natural(name: str) -> tuple[list[Any], int]:
    """Return a key that sorts modules by their numbers, and weights of a module as in Keras."""
    module, _, variable = name.rpartition('.')
    parts = [int(part) if part.isdigit() else part for part in re.split(r'(\d+)', module)]
    order = ('weight', 'bias', 'running_mean', 'running_var')
    return parts, order.index(variable) if variable in order else len(order)


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return dict(load(path.read_bytes()))
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise ModelError(
            f'{path}: is not a safetensors file or an archive of torch.save ({error}); save it '
            'again, with torch 1.6 or newer'
        ) from error


def _read_archive(path: Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                raise ModelError(
                    f'{path}: is compressed, which torch.save never does; such a file is refused'
                )
            pickled = [name for name in archive.namelist() if name.endswith('data.pkl')]
            if len(pickled) != 1 or archive.getinfo(pickled[0]).file_size > _MAX_PICKLE:
                raise ModelError(f'{path}: is not an archive of torch.save; expected one data.pkl')
            state = _Unpickler(path, archive, pickled[0]).load()
    except ModelError:
        raise
    except Exception as error:
        # A damaged pickle can raise any exception.
        raise ModelError(
            f'{path}: is not a valid archive of torch.save ({error}); fetch or save it again'
        ) from error
    for key in _NESTED:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict):
        raise ModelError(f'{path}: has a {type(state).__name__}; expected a state dict')
    return {
        str(name).removeprefix('module.'): value
        for name, value in state.items()
        if isinstance(value, np.ndarray)
    }


class _Unpickler(pickle.Unpickler):
    """An unpickler that builds tensors and dictionaries alone."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, name: str) -> None:
        super().__init__(archive.open(name))
        self.path, self.archive = path, archive
        self.root = name.removesuffix('data.pkl')
        self.order = '<'
        if self.root + 'byteorder' in archive.namelist():
            self.order = '>' if archive.read(self.root + 'byteorder') == b'big' else '<'

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ('collections', 'OrderedDict'):
            return OrderedDict
        if (module, name) == ('torch._utils', '_rebuild_tensor_v2'):
            return self._tensor
        if (module, name) == ('torch._utils', '_rebuild_parameter'):
            return lambda tensor, *rest: tensor
        if module == 'torch' and name in _STORAGES:
            return _STORAGES[name]
        raise ModelError(
            f'{self.path}: requires {module}.{name}, which could run code; such a file is refused '
            '(save the state dict alone, or as safetensors)'
        )

    def persistent_load(self, pid: Any) -> np.ndarray:
        kind, dtype, key = pid[:3]
        if kind != 'storage':
            raise ValueError(f'a {kind} in place of a storage')
        data = self.archive.read(f'{self.root}data/{key}')
        return np.frombuffer(data, self.order + dtype)

    @staticmethod
    def _tensor(
        storage: np.ndarray, offset: int, size: Any, stride: Any, *rest: Any
    ) -> np.ndarray:
        size, stride = tuple(map(int, size)), tuple(map(int, stride))
        if len(size) != len(stride) or min((offset, *size, *stride), default=0) < 0:
            raise ValueError(f'a tensor of size {size} and stride {stride}')
        end = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if 0 in size or end >= storage.size:
            raise ValueError(f'a tensor of size {size} in {storage.size} numbers')
        strides = [step * storage.itemsize for step in stride]
        return np.lib.stride_tricks.as_strided(storage[offset:], size, strides).copy()

"""PyTorch's state dicts, as safetensors or PyTorch's own archives, read without PyTorch.

An archive has a pickle, which could run any code and is read by `PickleReader`.
"""

import re
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from ...system.errors import ModelError
from .files import Budget, check_file, read_bytes
from .torch_pickle import Function, PickleReader

# Limit of the size of the pickle, which has no data of tensors and about 200 bytes for each.
_MAX_PICKLE = 1 << 22
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
    check_file(path)
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
            np.moveaxis(array, (1, 0), (-2, -1)) if _is_kernel(name, array) else array, np.float32
        )
        for name, array in sorted(state.items(), key=lambda item: _natural(item[0]))
    }


def _is_kernel(name: str, array: np.ndarray) -> bool:
    # Slopes have four axes, too.
    return array.ndim == 5 or (array.ndim == 4 and name.endswith('.weight'))


def _natural(name: str) -> tuple[list[Any], int]:
    """Return a key that sorts modules by their numbers, and weights of a module as in Keras."""
    module, _, variable = name.rpartition('.')
    parts = [
        int(part) if place % 2 else part
        for place, part in enumerate(re.split(r'(\d{1,18})', module))
    ]
    order = ('weight', 'bias', 'running_mean', 'running_var')
    return parts, order.index(variable) if variable in order else len(order)


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load

    content = read_bytes(path)
    try:
        return dict(load(content))
    except Exception as error:
        # The library has exceptions of its own, and raises others for types that NumPy lacks.
        raise ModelError(
            f'{path}: is not a safetensors file or an archive of torch.save ({error}); save it '
            'again, with torch 1.6 or newer'
        ) from error


def _read_archive(path: Path) -> dict[str, np.ndarray]:
    budget = Budget(path)
    try:
        with zipfile.ZipFile(path) as archive:
            _refuse_programs(path, archive.namelist())
            if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                raise ModelError(
                    f'{path}: is compressed, which torch.save never does; such a file is refused'
                )
            pickled = [name for name in archive.namelist() if name.endswith('data.pkl')]
            if len(pickled) != 1 or archive.getinfo(pickled[0]).file_size > _MAX_PICKLE:
                raise ModelError(f'{path}: is not an archive of torch.save; expected one data.pkl')
            tensors = _Tensors(path, archive, pickled[0])
            state = PickleReader(tensors.function, tensors.storage).read(archive.read(pickled[0]))
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
    found = {
        str(name).removeprefix('module.'): value
        for name, value in state.items()
        if isinstance(value, np.ndarray)
    }
    # Tensors may be views into one storage, of any size where a stride is 0.
    budget.take(sum(4 * array.size for array in found.values()))
    return found


def _refuse_programs(path: Path, members: list[str]) -> None:
    """Raise an error for an archive of code, which is never run."""
    kinds = {
        'a TorchScript program': any('/code/' in name for name in members),
        'a program of torch.export': any(name.endswith('/archive_format') for name in members),
    }
    for kind, found in kinds.items():
        if found:
            raise ModelError(
                f'{path}: is {kind}, and code in files is not run; save its weights with '
                'torch.save(model.state_dict(), ...), or export it with torch.onnx.export'
            )


class _Tensors:
    """Functions and storages of an archive's pickle.

    Parameters
    ----------
    path : Path
        The file, for messages.
    archive : ZipFile
        The opened file.
    name : str
        Name of the pickle.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile, name: str) -> None:
        self.path, self.archive = path, archive
        self.root = name.removesuffix('data.pkl')
        self.storages: dict[str, bytes] = {}
        # The members of an archive could be the same bytes of the file.
        self.budget = Budget(path)
        self.order = '<'
        if self.root + 'byteorder' in archive.namelist():
            self.order = '>' if archive.read(self.root + 'byteorder') == b'big' else '<'

    def function(self, module: str, name: str) -> Function:
        """Return the stand-in for a function or class."""
        if (module, name) == ('collections', 'OrderedDict'):
            return OrderedDict
        if (module, name) == ('torch._utils', '_rebuild_tensor_v2'):
            return self._tensor
        if (module, name) == ('torch._utils', '_rebuild_parameter'):
            return lambda tensor, *rest: tensor
        if module == 'torch' and name in _STORAGES:
            return _Storage(_STORAGES[name])
        raise ModelError(
            f'{self.path}: requires {module}.{name}, which could run code; such a file is refused '
            '(save the state dict alone, or as safetensors)'
        )

    def storage(self, pid: Any) -> np.ndarray:
        """Return the numbers of a storage."""
        kind, dtype, key = pid[:3]
        if kind != 'storage' or not isinstance(dtype, _Storage) or not isinstance(key, str):
            raise ValueError(f'a {kind} in place of a storage')
        if key not in self.storages:
            member = self.archive.getinfo(f'{self.root}data/{key}')
            self.budget.take(member.file_size)
            self.storages[key] = self.archive.read(member)
        return np.frombuffer(self.storages[key], self.order + dtype.code)

    @staticmethod
    def _tensor(
        storage: np.ndarray, offset: int, size: Any, stride: Any, *rest: Any
    ) -> np.ndarray:
        numbers = (offset, *size, *stride)
        if len(size) != len(stride) or any(type(n) is not int or n < 0 for n in numbers):
            raise ValueError(f'a tensor of size {size} and stride {stride}')
        end = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if 0 in size or end >= storage.size:
            raise ValueError(f'a tensor of size {size} in {storage.size} numbers')
        strides = [
            step * storage.itemsize if n > 1 else 0 for n, step in zip(size, stride, strict=True)
        ]
        view = np.lib.stride_tricks.as_strided(storage[offset:], size, strides, writeable=False)
        return view


class _Storage:
    """The class of a storage, which a pickle can name and not call."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __call__(self, *arguments: Any) -> None:
        """Refuse the call."""
        raise ValueError('a call of a storage')

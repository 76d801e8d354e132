"""ONNX files of other programs, as graphs that OpenVINO runs as they are."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...system.errors import ModelError
from .exact_norms import normalise_exactly
from .onnx_checks import OnnxFile
from .openvino_files import load_openvino, openvino_core
from .trial import try_reading

# Sides that are tried to find the number that all sides must be a multiple of.
_MULTIPLES = (1, 2, 4, 8, 16, 32, 64, 3, 5, 6, 9, 10, 12, 20, 24, 48)
_SIDE = 32
# Most channels that are tried if a file leaves their number open.
_MOST_CHANNELS = 4
# Longest side of a volume of fixed size; scans are conformed to 256 voxels, or little more.
_MOST_SIDE = 1024
# Processor time of a trial; large networks take a tenth of a second for each side.
_SECONDS = 20
# Bytes of constants that are computed from others, in addition to the size of the file.
_COMPUTED = 1 << 26
# The CPU's layout has channels in groups of so many.
_CHANNEL_GROUP = 8
_FLOATS = ('f32', 'f16', 'f64')


class OnnxGraph:
    """A network that only OpenVINO runs, from one volume to its classes.

    Parameters
    ----------
    found : OnnxFile
        The file, as `check_onnx` returns it.

    Attributes
    ----------
    source : Path
        The file.
    files : tuple of Path
        The file, and files with its weights.
    input_shape : tuple of int or None
        Spatial shape of the input; None for open axes, which all of them are or none.
    unit : int
        Number that divides the sides of all volumes that it takes.
    in_channels, classes : int
        Channels of the input and of the output.
    width : int
        Most channels of the output of a convolution.
    parameters : int
        Number of weights.
    products : float
        Multiplications for each voxel of the input.
    channels_first : bool
        Whether channels are the first axis after that of the batch, or the last one.
    last : {'softmax', 'sigmoid', ''}
        Operation after the logits: over the classes, or of a single class.

    Raises
    ------
    ModelError
        If it does not take a volume (batch, channels, X, Y, Z) or (batch, X, Y, Z, channels) and
        return one with the same voxels, or computes large constants.
    """

    def __init__(self, found: OnnxFile) -> None:
        self.source, self.files = found.path, tuple(found.files)
        self.parameters = found.weights
        self._model = self._read()
        self._check_ends()
        self.input_shape: tuple[int | None, ...] = (None,) * 3
        self.unit, self.channels_first = 1, True
        self.in_channels = self.classes = 0
        self._find_shapes()
        shape = [n or self._side for n in self.input_shape]
        self._reshape(shape)
        self.width, self.products = self._arithmetic(math.prod(shape))
        self._check_constants()
        self.last = self._find_last()
        self._held: dict[tuple[int, ...], int] = {}

    @property
    def fixed(self) -> bool:
        """Whether it takes volumes of one shape only."""
        return None not in self.input_shape

    @property
    def _side(self) -> int:
        """Side of a small volume that it takes."""
        return -(-_SIDE // self.unit) * self.unit

    def _read(self) -> Any:
        try:
            return openvino_core().read_model(self.source)
        except (RuntimeError, MemoryError) as error:
            raise self._fault(f'OpenVINO cannot read it ({_reason(error)})') from error

    def _fault(self, problem: str, advice: str = 'export it again with torch.onnx.export') -> Any:
        return ModelError(f'{self.source}: {problem}; {advice}')

    def _check_ends(self) -> None:
        given, made = self._model.input(0), self._model.output(0)
        for what, end in (('input', given), ('output', made)):
            kind = end.get_element_type().get_type_name()
            if kind not in _FLOATS:
                raise self._fault(
                    f'its {what} is of type {kind}, expected float32',
                    'export the network with its logits or probabilities as the output',
                )
        if given.get_partial_shape().rank.is_dynamic or len(given.get_partial_shape()) != 5:
            raise self._fault(
                f'its input is {given.get_partial_shape()}, expected five axes: batch, channels '
                'and three of a volume'
            )

    def _find_shapes(self) -> None:
        """Find the position and number of channels, and the sizes that the network takes."""
        batch, *rest = (
            None if side.is_dynamic else side.get_length()
            for side in self._model.input(0).get_partial_shape()
        )
        if batch not in (None, 1):
            raise self._fault(f'takes batches of {batch} volumes, expected 1')
        problems = []
        # Where two axes could be that of the channels, it is the shorter one.
        places = [(rest[0], rest[1:], True), (rest[-1], rest[:-1], False)]
        for channels, sides, first in sorted(places, key=lambda place: place[0] or math.inf):
            known = [n for n in sides if n is not None]
            # Open sizes beside fixed ones are set to the largest of these.
            fixed = [n or max(known, default=0) for n in sides]
            if max(fixed) > _MOST_SIDE:
                problems.append(f'takes volumes of {_by(fixed)}, expected at most {_MOST_SIDE}')
                continue
            for count in [channels] if channels else range(1, _MOST_CHANNELS + 1):
                self.channels_first, self.in_channels = first, count
                if known:
                    self.input_shape, problem = tuple(fixed), self._try(fixed)
                else:
                    self.input_shape, problem = (None,) * 3, self._find_unit()
                if not problem:
                    return
                problems.append(problem)
        # An output of another size says more than a refused input.
        made = [problem for problem in problems if problem.startswith('makes')]
        raise self._fault((made or problems)[0])

    def _find_unit(self) -> str:
        """Find the number that sides must be multiples of; return the problem if there is none."""
        said = ''
        for self.unit in _MULTIPLES:
            least = self._side // self.unit
            # Three different sides, so that none is confused with another.
            problem = self._try([self.unit * (least + more) for more in range(3)])
            if not problem:
                return ''
            said = said or problem
        return said

    def _try(self, sides: Sequence[int]) -> str:
        """Return why the network does not label a volume of this shape, '' if it does."""
        try:
            self._model.reshape(self._shaped(sides, self.in_channels))
        except RuntimeError as error:
            return f'does not take a volume of {_by(sides)} ({_reason(error)})'
        made = self._model.output(0).get_partial_shape()
        size = made.rank.is_static and made.is_static and list(made.to_shape())
        self.classes = 0 if not size or len(size) != 5 else size[1 if self.channels_first else -1]
        if not size or size != self._shaped(sides, self.classes) or not self.classes:
            return f'makes {made} out of a volume of {_by(sides)}, expected the same voxels'
        return ''

    def _shaped(self, sides: Sequence[int], channels: int) -> list[int]:
        return [1, channels, *sides] if self.channels_first else [1, *sides, channels]

    def _reshape(self, sides: Sequence[int]) -> None:
        problem = self._try(sides)
        if problem:
            raise self._fault(problem, 'use a volume of another size')

    def _arithmetic(self, voxels: int) -> tuple[int, float]:
        """Return the width, and the multiplications for each voxel."""
        width, products = 1, 0.0
        for op in self._model.get_ordered_ops():
            kind = op.get_type_name()
            if 'Convolution' in kind:
                made, kernel = op.output(0).get_shape(), op.input(1).get_shape()
                width = max(width, made[1])
                # A transposed convolution has a product for each voxel of its input.
                grid = op.input(0).get_shape() if 'Backprop' in kind else made
                products += math.prod(grid[2:]) * math.prod(kernel)
            elif kind == 'MatMul':
                products += math.prod(op.output(0).get_shape()) * op.input(0).get_shape()[-1]
        return width, products / voxels

    def _check_constants(self) -> None:
        """Refuse weights that are no numbers, and computed constants larger than their file."""
        for op in self._model.get_ordered_ops():
            if op.get_type_name() != 'Constant':
                continue
            # Infinity is no fault: it fills volumes before a maximum is taken.
            if op.get_element_type().get_type_name() in _FLOATS and np.isnan(op.data).any():
                raise self._fault(
                    f'weight {op.get_friendly_name()!r} holds values that are no numbers (NaN)',
                    'fetch the model or export it again',
                )
        size = sum(file.stat().st_size for file in self.files)
        total = sum(nbytes for _, nbytes, constant in self._outputs() if constant)
        if total > size + _COMPUTED:
            raise self._fault(
                f'computes {total >> 20:,} MB of constants out of {size:,} bytes',
                'such a file is refused',
            )

    def _outputs(self) -> Iterator[tuple[Any, int, bool]]:
        """Iterate over operations, their bytes, and whether they depend on constants only."""
        constant: dict[str, bool] = {}
        for op in self._model.get_ordered_ops():
            name, kind = op.get_name(), op.get_type_name()
            of = [op.input_value(i).get_node().get_name() for i in range(op.get_input_size())]
            # The shape of a volume is constant where its size is.
            fixed = kind in ('ShapeOf', 'Constant') or (bool(of) and all(constant[n] for n in of))
            constant[name] = fixed and kind != 'Result'
            nbytes = 0 if kind in ('Constant', 'Result') else sum(map(self._nbytes, op.outputs()))
            yield op, nbytes, constant[name]

    def _nbytes(self, output: Any) -> int:
        """Return the size of an operation's output, with volumes in groups of channels."""
        shape = output.get_partial_shape()
        if shape.is_dynamic:
            raise self._fault(
                f'the size of {output.get_node().get_friendly_name()!r} depends on values',
                'export a network whose sizes depend on that of the input only',
            )
        sides = list(shape.to_shape())
        if len(sides) == 5 and sides[1] > 1:
            sides[1] = -(-sides[1] // _CHANNEL_GROUP) * _CHANNEL_GROUP
        return int(math.prod(sides) * output.get_element_type().size)

    def held_bytes(self, shape: Sequence[int]) -> int:
        """Return the memory of computing a volume.

        Parameters
        ----------
        shape : sequence of 3 int
            Shape of the volume, which is enlarged to multiples of `unit`.

        Returns
        -------
        int
            Bytes of all arrays that are needed at the same time, where that is most: each result
            is kept until the last operation that takes it.

        Raises
        ------
        ModelError
            If the network does not take this shape.
        """
        sides = tuple(-(-n // self.unit) * self.unit for n in shape)
        if sides not in self._held:
            self._reshape(sides)
            self._held[sides] = self._live_bytes(math.prod(sides))
        return self._held[sides]

    def _live_bytes(self, voxels: int) -> int:
        last: dict[str, int] = {}
        ops = list(self._outputs())
        for i, (op, _, _) in enumerate(ops):
            for place in range(op.get_input_size()):
                last[op.input_value(place).get_node().get_name()] = i
        constants = sum(nbytes for _, nbytes, constant in ops if constant)
        most, live = 0, {}
        for i, (op, nbytes, constant) in enumerate(ops):
            if not constant:
                live[op.get_name()] = nbytes
            most = max(most, sum(live.values()))
            live = {name: n for name, n in live.items() if last.get(name, i) > i}
        # The input and the output are also needed in the other order of their axes.
        return most + constants + 4 * max(self.in_channels, 2 * self.classes) * voxels

    def prepared(self, builder: Any, shape: Sequence[int]) -> tuple[Any, Any]:
        """Return the graph for an input with its axes in reversed order.

        Parameters
        ----------
        builder : GraphBuilder
            Its operations are added.
        shape : sequence of 4 int
            Shape of the input, (Z, Y, X, channels).

        Returns
        -------
        output, input : node
            Both with the axes (1, Z, Y, X, channels). The operation `last` is left out.
        """
        from openvino.passes import ConstantFolding, Manager

        ops = builder.ops
        model, order = self._read(), [0, 4, 3, 2, 1] if self.channels_first else [0, 3, 2, 1, 4]
        model.reshape(self._shaped(shape[2::-1], self.in_channels))
        # Axes of layer normalisation are computed from the number of axes.
        folding = Manager()
        folding.register_pass(ConstantFolding())
        folding.run_passes(model)
        for node in model.get_ordered_ops():
            if node.get_type_name() == 'MVN':
                normalise_exactly(ops, node)
        entry = builder.parameter((1, *shape))
        given = ops.transpose(entry, ops.constant(order))
        old = model.input(0)
        kind = old.get_element_type().get_type_name()
        given = given if kind == 'f32' else ops.convert(given, kind)
        for target in old.get_target_inputs():
            target.replace_source_output(given.output(0))
        if self.last:
            last = self._last_operation(model)[0]
            for target in last.output(0).get_target_inputs():
                target.replace_source_output(last.input_value(0))
        made = model.output(0).get_node().input_value(0)
        if made.get_element_type().get_type_name() != 'f32':
            made = ops.convert(made, 'f32').output(0)
        return ops.transpose(made, ops.constant(order)), entry

    def _find_last(self) -> str:
        node, axis = self._last_operation(self._model)
        if node.get_type_name() == 'Sigmoid' and self.classes == 1:
            return 'sigmoid'
        if node.get_type_name() != 'Softmax' or node.get_attributes()['axis'] % 5 != axis:
            return ''
        if self.classes == 1:
            raise self._fault('has a softmax over one channel, which is 1 everywhere')
        return 'softmax'

    def _last_operation(self, model: Any) -> tuple[Any, int]:
        """Return the last operation that computes anything, and the axis of classes there."""
        node, axis = model.output(0).get_node(), 1 if self.channels_first else 4
        # Networks of TensorFlow turn the axes of probabilities, as torch did up to opset 12.
        while (kind := node.get_type_name()) in ('Result', 'Convert', 'Transpose'):
            if kind == 'Transpose':
                order = node.input_value(1).get_node()
                if order.get_type_name() != 'Constant':
                    break
                axis = int(order.get_data()[axis])
            given = node.input_value(0)
            if given.get_element_type().get_type_name() not in _FLOATS:
                break
            node = given.get_node()
        return node, axis

    def weights_sha256(self) -> str:
        """Return the SHA-256 of the contents of all files."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(file.read_bytes())
        return digest.hexdigest()


def read_graph(found: OnnxFile) -> OnnxGraph:
    """Read a graph, first in a process of its own.

    Parameters
    ----------
    found : OnnxFile
        The file, as `check_onnx` returns it.

    Returns
    -------
    OnnxGraph

    Raises
    ------
    ModelError
        As `OnnxGraph`.
    """
    try_reading(found.path, __name__, 'read_checked', 'ONNX', _SECONDS)
    return OnnxGraph(found)


def read_checked(path: Path) -> OnnxGraph:
    """Check and read a graph in the process of a trial."""
    from .onnx_checks import check_onnx

    return OnnxGraph(check_onnx(path))


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].strip()[:200]


def _by(sides: Sequence[int]) -> str:
    return ' x '.join(map(str, sides))


# Loaded with this module, so that a trial does not count it as memory of the file.
load_openvino()

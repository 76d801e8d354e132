"""A network as an OpenVINO graph, channels first: ``[1, channels, X, Y, Z]``."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..models.formats.openvino_files import openvino_core
from ..models.network import Network, Op
from ..system.errors import ModelError
from ..system.processes import why_refused
from .confidence import CONFIDENCE_STEPS
from .openvino_norms import MAKERS
from .steps import Head, Step


class GraphBuilder:
    """Builds networks from OpenVINO's operations.

    Parameters
    ----------
    openvino : module
        Module that `load_openvino` returns.
    """

    def __init__(self, openvino: Any) -> None:
        from openvino import opset13

        self.openvino = openvino
        self.ops = opset13
        self.core = openvino_core()
        self._makers: dict[str, Callable[[Op, list[Any]], Any]] = {
            'conv': self._conv,
            'conv_transpose': self._conv_transpose,
            'batch_norm': self._batch_norm,
            'activation': self._activation,
            'max_pool': self._max_pool,
            'upsample': self._upsample,
            'zero_pad': self._zero_pad,
            'concatenate': lambda op, given: self.ops.concat(given, 1),
            **{kind: partial(make, self.ops) for kind, make in MAKERS.items()},
        }

    def parameter(self, shape: Sequence[int]) -> Any:
        """Return an input of a static shape, float32."""
        return self.ops.parameter(list(shape), np.float32)

    def body(self, network: Network, volume: Any) -> Any:
        """Return the features that a network computes from an input.

        Parameters
        ----------
        network : Network
            Body of a network, as `split_head` returns it.
        volume : node
            ``[1, channels, X, Y, Z]``.

        Returns
        -------
        node
        """
        made = {network.ops[0].name: volume}
        for op in network.ops[1:]:
            made[op.name] = self._makers[op.kind](op, [made[name] for name in op.inputs])
        return made[network.ops[-1].name]

    def step(
        self,
        step: Step,
        planes: Any,
        padding: Sequence[tuple[int, int]],
        kernel: Any = None,
        bias: Any = None,
    ) -> Any:
        """Return a convolution of planes, with its activations if the step does not normalise.

        Parameters
        ----------
        step : Step
            Step of a chain.
        planes : node
            ``[1, X, Y, Z, channels]``, with all planes along X that the kernel needs.
        padding : sequence of 2 (int, int)
            Zeros before and after, along Y and Z.
        kernel, bias : node, optional
            Inputs that replace the step's own weights, in the shapes of `step_weights` with one
            axis in front.

        Returns
        -------
        node
            ``[1, X, Y, Z, channels]``.
        """
        ops = self.ops
        before, after = ([0, *side] for side in zip(*padding, strict=True))
        if kernel is None or bias is None:
            kernel, bias = (ops.constant(values[None]) for values in step_weights(step))
        kernel = ops.squeeze(kernel, self._integers(0))
        first = self.channels_first(planes)
        if step.up > 1:
            values = ops.convolution_backprop_data(
                first, kernel, [step.up] * 3, None, [0] * 3, [0] * 3, [1] * 3, 'explicit'
            )
        else:
            strides = [step.stride] * 3
            values = ops.convolution(
                first, kernel, strides, before, after, list(step.dilation), 'explicit'
            )
        values = ops.add(values, bias)
        if step.epsilon is None:
            values = self.activated(step, values)
        return self.channels_last(values)

    def channels_first(self, values: Any) -> Any:
        """Return ``[1, X, Y, Z, channels]`` as ``[1, channels, X, Y, Z]``."""
        return self.ops.transpose(values, self._integers(0, 4, 1, 2, 3))

    def channels_last(self, values: Any) -> Any:
        """Return ``[1, channels, X, Y, Z]`` as ``[1, X, Y, Z, channels]``."""
        return self.ops.transpose(values, self._integers(0, 2, 3, 4, 1))

    def moments(self, values: Any, shape: Sequence[int]) -> list[Any]:
        """Return mean and variance of each channel of ``[1, X, Y, Z, channels]``."""
        _, x, y, z, channels = shape

        def mean(values: Any) -> Any:
            # Matrix products are many times faster than OpenVINO's reductions here. Lines are
            # summed first, because a single float32 sum over a slab would lose digits.
            for rows, n in ((x * y, z), (1, x * y)):
                weights = self.ops.constant(np.full((1, 1, n), 1 / n, np.float32))
                lines = self.ops.reshape(values, self._integers(rows, n, channels), False)
                values = self.ops.matmul(weights, lines, False, False)
            return self.ops.reshape(values, self._integers(1, 1, 1, 1, channels), False)

        middle = mean(values)
        return [middle, mean(self.ops.squared_difference(values, middle))]

    def activated(self, step: Step, values: Any) -> Any:
        """Return the activations of a step; the position of the channels does not matter."""
        for function, alpha in step.activations:
            values = self._activated(values, function, alpha)
        return values

    def head(self, head: Head, rows: Any, kinds: Sequence[str]) -> list[Any]:
        """Return labels, confidences, probabilities or logits computed from features.

        Parameters
        ----------
        head : Head
            The last layer.
        rows : node
            Features, ``[coarse voxels, channels]``.
        kinds : sequence of {'labels', 'confidences', 'probabilities', 'logits'}
            Results to compute.

        Returns
        -------
        list of node
            Labels ``[U^3, 1, coarse voxels]`` int32, confidences of this shape, uint8;
            probabilities or logits ``[coarse voxels, U^3, classes]`` float32.
        """
        ops, count = self.ops, head.up**3
        matrix = ops.constant(head.matrix)
        made: dict[str, Any] = {}
        if {'labels', 'confidences'} & set(kinds):
            # With classes as the first axis, the maximum is computed over vectors of voxels.
            logits = ops.matmul(matrix, rows, False, True)
            logits = ops.add(logits, ops.constant(head.biases[:, None]))
            logits = ops.reshape(logits, self._integers(count, head.classes, -1), False)
            # The first class in a tie, as everywhere.
            one = ops.constant(np.int32(1))
            best = ops.topk(logits, one, 1, 'max', 'value', 'i32', stable=True)
            made['labels'] = best.output(1)
            if 'confidences' in kinds:
                # Matrix products are many times faster than OpenVINO's reductions here.
                ones = ops.constant(np.ones((1, 1, head.classes), np.float32))
                others = ops.exp(ops.subtract(logits, best.output(0)))
                steps = ops.divide(
                    ops.constant(np.float32(CONFIDENCE_STEPS)),
                    ops.matmul(ones, others, False, False),
                )
                half = ops.constant(np.float32(0.5))
                made['confidences'] = ops.convert(ops.add(steps, half), 'u8')
        if {'probabilities', 'logits'} & set(kinds):
            logits = ops.add(ops.matmul(rows, matrix, False, True), ops.constant(head.biases))
            logits = ops.reshape(logits, self._integers(-1, count, head.classes), False)
            made['logits'] = logits
            made['probabilities'] = ops.softmax(logits, 2)
        return [made[kind] for kind in kinds]

    def _integers(self, *values: int) -> Any:
        return self.ops.constant(np.array(values, np.int64))

    def _plus(self, values: Any, bias: np.ndarray | None) -> Any:
        if bias is None:
            return values
        shaped = np.ascontiguousarray(bias, np.float32).reshape(1, -1, 1, 1, 1)
        return self.ops.add(values, self.ops.constant(shaped))

    def _conv(self, op: Op, given: list[Any]) -> Any:
        settings, groups = op.settings, op.settings['groups']
        kernel = np.ascontiguousarray(op.weights['kernel'].transpose(4, 3, 0, 1, 2))
        convolve = self.ops.convolution
        if groups > 1:
            kernel = kernel.reshape(groups, -1, *kernel.shape[1:])
            convolve = self.ops.group_convolution
        result = convolve(
            given[0],
            self.ops.constant(kernel),
            list(settings['strides']),
            [0, 0, 0],
            [0, 0, 0],
            list(settings['dilation']),
            'same_upper' if settings['padding'] == 'same' else 'explicit',
        )
        return self._plus(result, op.weights.get('bias'))

    def _conv_transpose(self, op: Op, given: list[Any]) -> Any:
        settings = op.settings
        kernel = np.ascontiguousarray(op.weights['kernel'].transpose(4, 3, 0, 1, 2))
        reach = [
            (n - 1) * d + 1 for n, d in zip(op.kernel_size, settings['dilation'], strict=True)
        ]
        over = [n - stride for n, stride in zip(reach, settings['strides'], strict=True)]
        # Keras crops the result to stride times the size of the input; if strides are wider than
        # the kernel, zeros follow.
        cut = [max(n, 0) * (settings['padding'] == 'same') for n in over]
        result = self.ops.convolution_backprop_data(
            given[0],
            self.ops.constant(kernel),
            list(settings['strides']),
            None,
            [n // 2 for n in cut],
            [n - n // 2 for n in cut],
            list(settings['dilation']),
            'explicit',
            [max(-n, 0) for n in over],
        )
        return self._plus(result, op.weights.get('bias'))

    def _batch_norm(self, op: Op, given: list[Any]) -> Any:
        weights = op.weights
        spread = np.sqrt(weights['moving_variance'] + op.settings['epsilon'])
        scale = weights.get('gamma', np.float32(1)) / spread
        shift = weights.get('beta', np.float32(0)) - weights['moving_mean'] * scale
        shaped = np.ascontiguousarray(scale, np.float32).reshape(1, -1, 1, 1, 1)
        return self._plus(self.ops.multiply(given[0], self.ops.constant(shaped)), shift)

    def _activation(self, op: Op, given: list[Any]) -> Any:
        return self._activated(given[0], op.settings['function'], op.settings['alpha'])

    def _activated(self, x: Any, function: str, alpha: float) -> Any:
        ops = self.ops
        if function == 'linear':
            return x
        makers: dict[str, Callable[[], Any]] = {
            'relu': lambda: ops.relu(x),
            'relu6': lambda: ops.clamp(x, 0.0, 6.0),
            'leaky_relu': lambda: ops.prelu(x, ops.constant(np.array([alpha], np.float32))),
            'elu': lambda: ops.elu(x, float(alpha)),
            # Constants of Klambauer et al. (2017).
            'selu': lambda: ops.selu(
                x,
                ops.constant(np.float32(1.6732632423543772)),
                ops.constant(np.float32(1.0507009873554805)),
            ),
            'silu': lambda: ops.swish(x),
            'sigmoid': lambda: ops.sigmoid(x),
            'softplus': lambda: ops.softplus(x),
            'tanh': lambda: ops.tanh(x),
            'gelu': lambda: ops.gelu(x, 'erf'),
            'gelu_tanh': lambda: ops.gelu(x, 'tanh'),
            'mish': lambda: ops.mish(x),
            'softsign': lambda: ops.softsign(x),
            'exponential': lambda: ops.exp(x),
            'softmax': lambda: ops.softmax(x, 1),
        }
        return makers[function]()

    def _max_pool(self, op: Op, given: list[Any]) -> Any:
        settings = op.settings
        return self.ops.max_pool(
            given[0],
            list(settings['strides']),
            [1, 1, 1],
            [0, 0, 0],
            [0, 0, 0],
            list(settings['size']),
            'floor',
            'same_upper' if settings['padding'] == 'same' else 'explicit',
        ).output(0)

    def _upsample(self, op: Op, given: list[Any]) -> Any:
        return self.ops.interpolate(
            given[0],
            self.ops.constant(np.array(op.settings['size'], np.float32)),
            'nearest',
            'scales',
            coordinate_transformation_mode='asymmetric',
            nearest_mode='floor',
            axes=self._integers(2, 3, 4),
        )

    def _zero_pad(self, op: Op, given: list[Any]) -> Any:
        before, after = zip(*op.settings['padding'], strict=True)
        begin, end = (self._integers(0, 0, *pads) for pads in (before, after))
        return self.ops.pad(given[0], begin, end, 'constant', self.ops.constant(np.float32(0)))


def step_weights(step: Step) -> tuple[np.ndarray, np.ndarray]:
    """Return the kernel of a step, and its bias (Cout, 1, 1, 1).

    The kernel is (Cout, Cin, X, Y, Z), or (Cin, Cout, X, Y, Z) for a transposed convolution.
    """
    axes = (4, 3, 0, 1, 2) if step.up == 1 else (3, 4, 0, 1, 2)
    # Copies, because OpenVINO shares no arrays that are read-only, as those of files are.
    kernel = np.array(step.kernel.transpose(axes), np.float32, order='C')
    return kernel, np.array(step.bias, np.float32).reshape(-1, 1, 1, 1)


def compiled(
    builder: GraphBuilder,
    outputs: list[Any],
    given: list[Any],
    source: str,
    threads: int | None,
    precision: str = 'f32',
) -> Any:
    """Compile a graph for this machine's processor.

    Parameters
    ----------
    builder : GraphBuilder
        Builder of the graph.
    outputs : list of node
        Outputs of the graph.
    given : list of node
        Inputs of the graph.
    source : str
        Name of the model, for messages.
    threads : int, optional
        Number of threads; by default all.
    precision : {'f32', 'bf16'}
        Precision of products.

    Returns
    -------
    openvino.CompiledModel

    Raises
    ------
    ModelError
        If OpenVINO cannot compile the graph.
    """
    openvino = builder.openvino
    # On processors with bfloat16 that would be the default.
    hints: dict[str, Any] = {
        'INFERENCE_PRECISION_HINT': precision,
        'PERFORMANCE_HINT': 'LATENCY',
        # Parallel processes would all be pinned to the same processors.
        'ENABLE_CPU_PINNING': False,
    }
    if threads:
        hints['INFERENCE_NUM_THREADS'] = threads
    results = [builder.ops.result(output) for output in outputs]
    try:
        return builder.core.compile_model(openvino.Model(results, given), 'CPU', hints)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        why = why_refused(reason) or f'OpenVINO cannot run it ({reason}); use tensorflow'
        raise ModelError(f'{source}: {why}') from error

"""Layers that PyTorch trains faster than Keras' own, with the same weights and results.

Before each convolution, Keras' PyTorch backend copies a volume to channels first and back. Batch
normalisation is a dozen operations in float32, each of which reads and writes a whole volume. And
for the gradient of a dilated kernel oneDNN has no fast implementation: it takes seven times as
long as that of a kernel without dilation (32 channels, bfloat16 with AMX, PyTorch 2.13). Networks
are read by the names of their layers' classes, so that these have the names of Keras' layers.
"""

from typing import Any

import keras
import torch


class Conv3D(keras.layers.Conv3D):
    """A convolution without copies; if it is dilated, with a faster gradient of its kernel."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Return the convolution of ``(batch, X, Y, Z, Cin)`` with a kernel."""
        if self.padding != 'same' or self.data_format != 'channels_last':
            return super().convolution_op(inputs, kernel)
        volumes = inputs.movedim(-1, 1).contiguous(memory_format=torch.channels_last_3d)
        weights = keras.ops.convert_to_tensor(kernel).permute(4, 3, 0, 1, 2)
        totals = [
            max(0, (-(-side // stride) - 1) * stride + (size - 1) * dilation + 1 - side)
            for side, stride, size, dilation in zip(
                volumes.shape[2:], self.strides, self.kernel_size, self.dilation_rate, strict=True
            )
        ]
        padding = [total // 2 for total in totals]
        if any(total % 2 for total in totals):
            # One more zero after the last voxel than before the first.
            pairs = zip(padding, totals, strict=True)
            sides = [side for before, total in pairs for side in (total - before, before)]
            volumes = torch.nn.functional.pad(volumes, sides[::-1])
            padding = [0, 0, 0]
        dilation = self.dilation_rate[0]
        if (
            dilation > 1
            and set(self.dilation_rate) == {dilation}
            and set(self.strides) == {1}
            and self.groups == 1
            and padding == [dilation * (size // 2) for size in self.kernel_size]
            and not volumes.is_cuda
        ):
            made = _DilatedConvolution.apply(volumes, weights, dilation)
        else:
            made = torch.nn.functional.conv3d(
                volumes, weights, None, self.strides, padding, self.dilation_rate, self.groups
            )
        return made.movedim(1, -1)


class _DilatedConvolution(torch.autograd.Function):
    """Dilated convolution whose kernel's gradient is computed without dilation.

    Voxels whose coordinates have the same remainders modulo the dilation are a volume of their
    own, in which the kernel is not dilated. Its gradient is that over a batch of these volumes.
    """

    @staticmethod
    def forward(ctx: Any, volumes: Any, kernel: Any, dilation: int) -> Any:
        ctx.save_for_backward(volumes, kernel)
        ctx.dilation = dilation
        ctx.padding = [dilation * (size // 2) for size in kernel.shape[2:]]
        return torch.nn.functional.conv3d(volumes, kernel, padding=ctx.padding, dilation=dilation)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, Any, None]:
        volumes, kernel = ctx.saved_tensors
        (gradient,) = gradients
        of_volumes = of_kernel = None
        if ctx.needs_input_grad[0]:
            of_volumes = _gradients(
                gradient, volumes, kernel, ctx.padding, ctx.dilation, (True, False, False)
            )[0]
        if ctx.needs_input_grad[1]:
            of_kernel = _gradients(
                _by_remainder(gradient, ctx.dilation),
                _by_remainder(volumes, ctx.dilation),
                kernel,
                [size // 2 for size in kernel.shape[2:]],
                1,
                (False, True, False),
            )[1]
        return of_volumes, of_kernel, None


def _gradients(
    gradient: Any,
    volumes: Any,
    kernel: Any,
    padding: list[int],
    dilation: int,
    wanted: tuple[bool, bool, bool],
) -> Any:
    """Return the gradients of volumes, kernel and bias, or None where they are not wanted."""
    stride, dilations, no_padding = [1] * 3, [dilation] * 3, [0] * 3
    return torch.ops.aten.convolution_backward(
        gradient, volumes, kernel, None, stride, padding, dilations, False, no_padding, 1, wanted
    )


def _by_remainder(volumes: Any, dilation: int) -> Any:
    """Return volumes (B, C, X, Y, Z) as a batch of those of every so many voxels along each axis.

    Sides that are no multiple of the dilation are padded with zeros, which add nothing to a
    kernel's gradient: those of the output's gradient meet any voxel with a factor of zero.
    """
    missing = [-side % dilation for side in volumes.shape[2:]]
    if any(missing):
        x, y, z = missing
        volumes = torch.nn.functional.pad(volumes, (0, z, 0, y, 0, x))
    batch, channels, *sides = volumes.shape
    x, y, z = (side // dilation for side in sides)
    parts = volumes.movedim(1, -1).reshape(batch, x, dilation, y, dilation, z, dilation, channels)
    parts = parts.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(-1, x, y, z, channels)
    return parts.movedim(-1, 1)


class BatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation in one operation, of the last axis."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise ``(batch, X, Y, Z, C)``; in training, update the moving statistics."""
        if not (self.scale and self.center) or self.renorm or mask is not None:
            return super().call(inputs, training=training, mask=mask)
        volumes = inputs.movedim(-1, 1)
        scale, shift = self.gamma.value, self.beta.value
        if not (training and self.trainable):
            normalised = torch.nn.functional.batch_norm(
                volumes,
                self.moving_mean.value,
                self.moving_variance.value,
                scale,
                shift,
                eps=self.epsilon,
            )
            return normalised.movedim(1, -1)
        normalised, mean, inverse = torch.native_batch_norm(
            volumes, scale, shift, None, None, True, 0.0, self.epsilon
        )
        with torch.no_grad():
            variance = inverse**-2 - self.epsilon
            for moving, found in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(moving * self.momentum + found * (1 - self.momentum))
        return normalised.movedim(1, -1)

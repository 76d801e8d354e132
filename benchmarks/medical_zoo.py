"""Two networks of MedicalZooPytorch, rebuilt from the papers that it names.

U-Net with residual blocks and deep supervision (Isensee et al., 2017,
https://arxiv.org/abs/1802.10508), and V-Net (Milletari et al., 2016,
https://arxiv.org/abs/1606.04797).
"""

import torch
from torch import Tensor, nn


def _conv(given: int, made: int, size: int = 3, stride: int = 1) -> nn.Conv3d:
    return nn.Conv3d(given, made, size, stride, size // 2, bias=False)


def _normed(given: int, made: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        _conv(given, made, size, stride), nn.InstanceNorm3d(made), nn.LeakyReLU(0.01)
    )


class _Context(nn.Module):
    """A convolution with a stride, and two more beside a residual connection."""

    def __init__(self, given: int, made: int, stride: int) -> None:
        super().__init__()
        self.enter = _conv(given, made, 3, stride)
        self.inner = nn.Sequential(
            nn.InstanceNorm3d(made),
            nn.LeakyReLU(0.01),
            _conv(made, made),
            nn.Dropout3d(0.6),
            nn.InstanceNorm3d(made),
            nn.LeakyReLU(0.01),
            _conv(made, made),
        )
        self.leave = nn.Sequential(nn.InstanceNorm3d(made), nn.LeakyReLU(0.01))

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        return self.leave(x + self.inner(x))


class ResidualUNet(nn.Module):
    """U-Net of five levels, whose logits are sums over three of them."""

    def __init__(self, channels: int = 1, classes: int = 4, width: int = 8) -> None:
        super().__init__()
        widths = [width << i for i in range(5)]
        self.down = nn.ModuleList(
            _Context(given, made, 1 if i == 0 else 2)
            for i, (given, made) in enumerate(zip([channels, *widths], widths, strict=False))
        )
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(
            nn.Sequential(nn.Upsample(scale_factor=2), _normed(a, b)) for a, b in pairs
        )
        self.join = nn.ModuleList(
            nn.Sequential(_normed(2 * b, 2 * b), _normed(2 * b, b, 1)) for _, b in pairs
        )
        self.heads = nn.ModuleList(_conv(b, classes, 1) for _, b in pairs[1:])
        self.finer = nn.Upsample(scale_factor=2)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
        total = None
        for i, (up, join) in enumerate(zip(self.up, self.join, strict=True)):
            x = join(torch.cat([up(x), skips[-2 - i]], 1))
            if i:
                logits = self.heads[i - 1](x)
                total = logits if total is None else self.finer(total) + logits
        return total


class _Residual(nn.Module):
    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        each = [
            part
            for _ in range(layers)
            for part in (nn.Conv3d(width, width, 5, 1, 2), nn.BatchNorm3d(width), nn.ELU())
        ]
        self.layers = nn.Sequential(*each)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.elu(x + self.layers(x))


def _sampled(conv: nn.Module, made: int) -> nn.Sequential:
    return nn.Sequential(conv, nn.BatchNorm3d(made), nn.ELU())


class VNet(nn.Module):
    """V-Net of five levels with residual blocks of 5x5x5 convolutions."""

    def __init__(self, channels: int = 1, classes: int = 4) -> None:
        super().__init__()
        self.enter = _sampled(nn.Conv3d(channels, 16, 5, 1, 2), 16)
        widths, layers = [16, 32, 64, 128, 256], [1, 2, 3, 2]
        self.down = nn.ModuleList(
            nn.Sequential(_sampled(nn.Conv3d(a, b, 2, 2), b), _Residual(b, n))
            for a, b, n in zip(widths, widths[1:], layers, strict=False)
        )
        self.up, self.join = nn.ModuleList(), nn.ModuleList()
        given = 256
        for made, skipped, n in ((256, 128, 2), (128, 64, 2), (64, 32, 1), (32, 16, 1)):
            half = made - skipped
            self.up.append(_sampled(nn.ConvTranspose3d(given, half, 2, 2), half))
            self.join.append(_Residual(made, n))
            given = made
        self.leave = nn.Sequential(
            _sampled(nn.Conv3d(32, classes, 5, 1, 2), classes), nn.Conv3d(classes, classes, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        skips = [x]
        for block in self.down:
            x = block(x)
            skips.append(x)
        for up, join, skip in zip(self.up, self.join, skips[-2::-1], strict=True):
            x = join(torch.cat([up(x), skip], 1))
        return self.leave(x)

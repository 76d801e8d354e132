"""Builders of networks by name, and those of users."""

import difflib
import importlib
import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import keras

from ..models.blocks import NORMS
from ..models.keras_model import avoid_false_fusion, network_of
from ..models.locator import build_locator
from ..models.meshnet import NearIdentity, build_meshnet
from ..models.network import ACTIVATIONS, fold_batchnorm
from ..models.unet import build_light_unet, build_unet
from ..models.vnet import build_vnet
from ..system.errors import BrainchopError, Interrupted, ModelError, SettingsError
from .inherit import LIKE
from .like import build_like
from .options import NetworkOptions

Shape = tuple[int | None, int | None, int | None]
OPEN: Shape = (None, None, None)


class Builder(Protocol):
    """Builder of the networks of one architecture."""

    def __call__(
        self, network: NetworkOptions, *, norm: str, classes: int, in_channels: int, shape: Shape
    ) -> Any:
        """Return a `keras.Model`.

        Parameters
        ----------
        network : NetworkOptions
            The ``[model]`` table; a builder may ignore parts of it.
        norm : {'none', 'batch', 'group'}
            Normalisation between convolutions and activations.
        classes : int
            Number of classes.
        in_channels : int
            Channels of the input.
        shape : tuple of 3 int or None
            Spatial shape; None where an axis is open.

        Returns
        -------
        keras.Model
            ``(batch, X, Y, Z, in_channels)`` to logits ``(batch, X, Y, Z, classes)``.
        """


ARCHITECTURES: dict[str, Builder] = {}


def register(name: str) -> Callable[[Builder], Builder]:
    """Decorate a builder, to register it under a name for configs.

    Parameters
    ----------
    name : str
        Name without a colon, which marks builders in files and modules.

    Raises
    ------
    SettingsError
        If another builder has this name.
    """

    def decorate(builder: Builder) -> Builder:
        if ':' in name or ARCHITECTURES.get(name, builder) is not builder:
            raise SettingsError(
                f'architecture {name!r} cannot be registered; choose a name without a colon '
                f'other than {", ".join(ARCHITECTURES)}'
            )
        ARCHITECTURES[name] = builder
        return builder

    return decorate


def build_network(
    network: NetworkOptions, *, norm: str, classes: int, in_channels: int = 1, shape: Shape = OPEN
) -> Any:
    """Build the network of a training config.

    Parameters
    ----------
    network : NetworkOptions
        Its ``architecture`` is a key of `ARCHITECTURES`, ``like:MODEL`` for that of a model, see
        `build_like`, ``path/to/file.py:function`` or ``module:function``; a user's code is run
        only if a config names it.
    norm, classes, in_channels, shape
        See `Builder`.

    Returns
    -------
    keras.Model
        ``(batch, X, Y, Z, in_channels)`` to logits ``(batch, X, Y, Z, classes)``.

    Raises
    ------
    SettingsError
        If the name is unknown, a setting is invalid, or a user's builder is not found, fails or
        returns something else.
    """
    checks = [
        (network.channels > 0, 'channels', network.channels, 'at least 1'),
        (network.levels > 0, 'levels', network.levels, 'at least 1'),
        (0 <= network.dropout < 1, 'dropout', network.dropout, '0 to below 1'),
        (
            network.activation in ACTIVATIONS,
            'activation',
            repr(network.activation),
            f'one of {", ".join(ACTIVATIONS)}',
        ),
    ]
    for holds, key, value, expected in checks:
        if not holds:
            raise SettingsError(f'model.{key} is {value}; expected {expected}')
    if norm not in NORMS:
        raise SettingsError(f'stages.norm is {norm!r}; expected one of {", ".join(NORMS)}')
    name = network.architecture
    if name.startswith(LIKE):
        return build_like(
            name.removeprefix(LIKE),
            norm=norm,
            classes=classes,
            in_channels=in_channels,
            shape=shape,
        )
    if name in ARCHITECTURES:
        builder = ARCHITECTURES[name]
        return builder(network, norm=norm, classes=classes, in_channels=in_channels, shape=shape)
    builder = _import_builder(name)
    try:
        model = builder(network, norm=norm, classes=classes, in_channels=in_channels, shape=shape)
    except BrainchopError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [''])[0]
        raise SettingsError(
            f'model.architecture {name}: its function failed ({type(error).__name__}: {reason})'
        ) from error
    _check_model(model, name, classes, in_channels, shape)
    return model


def _import_builder(name: str) -> Builder:
    """Return the function of ``module:function`` or ``file.py:function``."""
    module_name, colon, function = name.rpartition(':')
    if not colon or not module_name:
        near = difflib.get_close_matches(name, ARCHITECTURES, 1, 0.4)
        hint = f'did you mean {near[0]}? ' if near else ''
        raise SettingsError(
            f'model.architecture {name!r} is unknown; {hint}Expected one of '
            f'{", ".join(ARCHITECTURES)}, or path/to/file.py:function'
        )
    path = Path(module_name).expanduser()
    try:
        if module_name.endswith('.py'):
            if not path.is_file():
                raise SettingsError(f'model.architecture {name}: there is no file {path}')
            module = _run_file(path.resolve(), path.stat().st_mtime_ns)
        else:
            module = importlib.import_module(module_name)
    except (SettingsError, Interrupted):
        raise
    # A module may raise any exception while it is imported, SystemExit too.
    except (Exception, SystemExit) as error:
        reason = (str(error).strip().splitlines() or [''])[0]
        raise SettingsError(
            f'model.architecture {name}: {module_name} cannot be imported '
            f'({type(error).__name__}: {reason})'
        ) from error
    candidate = getattr(module, function, None)
    if not callable(candidate):
        names = [key for key, value in vars(module).items() if callable(value)]
        near = difflib.get_close_matches(function, names, 1, 0.5)
        hint = f'; did you mean {near[0]}?' if near else ''
        raise SettingsError(f'model.architecture {name}: {module_name} has no such function{hint}')
    builder: Builder = candidate
    return builder


@cache
def _run_file(path: Path, changed: int) -> Any:
    """Import a file, once for each time of change."""
    spec = importlib.util.spec_from_file_location(f'brainchop_user_{path.stem}', path)
    if spec is None or spec.loader is None:
        raise ImportError(f'{path} is not a Python file')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _check_model(model: Any, name: str, classes: int, in_channels: int, shape: Shape) -> None:
    """Raise if a model could not be trained, or not be used after training."""
    prefix = f'model.architecture {name}'
    if not isinstance(model, keras.Model):
        raise SettingsError(f'{prefix}: returns a {type(model).__name__}; expected a keras.Model')
    for what, actual, last in (
        ('input', model.input_shape, in_channels),
        ('output', model.output_shape, classes),
    ):
        expected = (None, *shape, last)
        if actual != expected:
            raise SettingsError(
                f'{prefix}: its {what} has the shape {actual}; expected {expected}'
            )
    try:
        network = fold_batchnorm(network_of(model))
    except ModelError as error:
        raise SettingsError(f'{prefix}: could not be used after training ({error})') from error
    avoid_false_fusion(network)
    if network.ops[-1].is_activation('softmax', 'sigmoid'):
        raise SettingsError(
            f'{prefix}: ends with {network.ops[-1].settings["function"]}; expected logits'
        )


def _check_sides(network: NetworkOptions, shape: Shape, unit: int, reason: str) -> None:
    """Raise if sides cannot be halved as often as in the network."""
    sides = [side for side in shape if side is not None and side % unit]
    if sides:
        near = sorted({max(side // unit, 1) * unit for side in sides})
        raise SettingsError(
            f'stages.cube is {sides[0]}; model.architecture {network.architecture} with {reason} '
            f'needs a multiple of {unit}, such as {near[0]} or {near[0] + unit}'
        )


@register('meshnet')
def _meshnet(
    network: NetworkOptions, *, norm: str, classes: int, in_channels: int, shape: Shape
) -> Any:
    factor = network.space_to_depth
    _check_sides(network, shape, factor, f'model.space_to_depth = {factor}')
    return build_meshnet(
        channels=network.channels,
        dilations=network.dilations,
        classes=classes,
        activation=network.activation,
        norm=None if norm == 'none' else norm,
        dropout=network.dropout,
        in_channels=in_channels,
        input_shape=shape,
        factor=factor,
        initializer=NearIdentity(),
    )


@register('light_unet')
def _light_unet(
    network: NetworkOptions, *, norm: str, classes: int, in_channels: int, shape: Shape
) -> Any:
    factor, widths = network.space_to_depth, network.widths
    unit = factor * 2 ** (len(widths) - 1)
    reason = f'model.space_to_depth = {factor} and {len(widths)} model.widths'
    _check_sides(network, shape, unit, reason)
    return build_light_unet(
        widths=widths,
        features=2 * widths[0],
        factor=factor,
        classes=classes,
        activation=network.activation,
        norm=norm,
        dropout=network.dropout,
        in_channels=in_channels,
        input_shape=shape,
    )


@register('locator')
def _locator(
    network: NetworkOptions, *, norm: str, classes: int, in_channels: int, shape: Shape
) -> Any:
    return build_locator(classes=classes, in_channels=in_channels, input_shape=shape[:2])


def _multiresolution_builder(build: Callable[..., Any], **more: Any) -> Builder:
    """Return a builder of networks with several resolutions."""

    def builder(
        network: NetworkOptions, *, norm: str, classes: int, in_channels: int, shape: Shape
    ) -> Any:
        unit = 2 ** (network.levels - 1)
        _check_sides(network, shape, unit, f'model.levels = {network.levels}')
        return build(
            channels=network.channels,
            levels=network.levels,
            classes=classes,
            activation=network.activation,
            norm=norm,
            dropout=network.dropout,
            in_channels=in_channels,
            input_shape=shape,
            **more,
        )

    return builder


register('unet')(_multiresolution_builder(build_unet))
register('nobrainer_unet')(_multiresolution_builder(build_unet, nobrainer=True))
register('vnet')(_multiresolution_builder(build_vnet))

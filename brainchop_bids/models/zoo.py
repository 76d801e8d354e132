"""Where models lie."""

import os
from pathlib import Path

from ..system.errors import ModelError
from .formats import holds_model
from .registry import published_models, published_name

ENVIRONMENT = 'BRAINCHOP_MODELS'


def find_model(name_or_folder: str | Path, models_dir: str | Path | None = None) -> Path:
    """Return the folder of a model.

    Parameters
    ----------
    name_or_folder : str or path
        A model's folder, or its name in one of the places below.
    models_dir : path, optional
        A folder of model folders, looked into last.

    Returns
    -------
    Path
        The first that exists of: the folder itself, the packaged model of that name, that in
        the cache (see `cache_folder`), and ``models_dir/name``.

    Raises
    ------
    ModelError
        Listing where it was looked for and which models there are.
    """
    given = _expanded(name_or_folder)
    if given.is_dir():
        return given
    if given.exists():
        raise ModelError(f'{given}: is a file; expected the folder it lies in')
    places = model_places(models_dir)
    # A path that does not exist is a slip of the pen, not a name to look up elsewhere.
    if given.name == str(name_or_folder):
        for name in dict.fromkeys([given.name, published_name(given.name)]):
            for place in places:
                if (place / name).is_dir():
                    return place / name
    looked = ', '.join(str(place) for place in places)
    name = published_name(str(name_or_folder))
    if name in published_models():
        raise ModelError(
            f'{name_or_folder}: is not here yet (looked in {looked}); '
            f'fetch it with brainchop-models get {name}'
        )
    names = sorted({name for place in places for name in list_models(place)})
    raise ModelError(
        f'{name_or_folder}: no such model folder; looked in {looked}; models there: '
        f'{", ".join(names) or "none"} (give a folder, or set --models-dir); '
        f'brainchop-models list shows all'
    )


def list_models(folder: Path) -> list[str]:
    """Return the names of the model folders in a folder, sorted; none where it is missing."""
    try:
        return sorted(
            path.name for path in folder.iterdir() if path.is_dir() and holds_model(path)
        )
    except OSError:
        return []


def cache_folder(models_dir: str | Path | None = None) -> Path:
    """Return where fetched models are kept.

    Parameters
    ----------
    models_dir : path, optional
        Given by the user, it is this one.

    Returns
    -------
    Path
        Else ``$BRAINCHOP_MODELS``, else ``brainchop-bids/models`` in ``$XDG_CACHE_HOME`` or
        ``~/.cache``.
    """
    if models_dir is not None:
        return _expanded(models_dir)
    if os.environ.get(ENVIRONMENT):
        return _expanded(os.environ[ENVIRONMENT])
    base = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    return _expanded(base) / 'brainchop-bids' / 'models'


def model_places(models_dir: str | Path | None = None) -> list[Path]:
    """Return the folders that models are looked for in, in order."""
    packaged = Path(__file__).resolve().parents[1] / 'data' / 'models'
    given = [] if models_dir is None else [_expanded(models_dir)]
    return list(dict.fromkeys([packaged, cache_folder(), *given]))


def _expanded(path: str | Path) -> Path:
    """Put the home folder in place of ``~``, which stays where there is none."""
    # Path.expanduser would raise there.
    return Path(os.path.expanduser(path))

"""Location of model folders."""

import os
from pathlib import Path

from ..system.errors import ModelError
from ..system.text import near
from .formats import holds_model
from .registry import published_models, published_name

ENVIRONMENT = 'BRAINCHOP_MODELS'


def find_model(name_or_folder: str | Path, models_dir: str | Path | None = None) -> Path:
    """Return the folder of a model.

    Parameters
    ----------
    name_or_folder : str or path
        A model folder, or the name of a model.
    models_dir : path, optional
        A folder of model folders, which is searched last.

    Returns
    -------
    Path
        The first existing one of: the given folder, the packaged model of that name, that in the
        cache (see `cache_folder`), and ``models_dir/name``.

    Raises
    ------
    ModelError
        If there is none; the message lists searched folders and available models.
    """
    given = _expand_user(name_or_folder)
    # Path.is_dir raises for names that are too long.
    if os.path.isdir(given):
        return given
    if os.path.exists(given):
        raise ModelError(f'{given}: is a file; expected its folder')
    folders = search_folders(models_dir)
    # A missing path is not a name to search for.
    if given.name == str(name_or_folder):
        for name in dict.fromkeys([given.name, published_name(given.name)]):
            for folder in folders:
                if os.path.isdir(folder / name):
                    return folder / name
    searched = ', '.join(map(str, folders))
    name = published_name(str(name_or_folder))
    if name in published_models():
        raise ModelError(
            f'{name_or_folder}: is not here yet (searched {searched}); '
            f'fetch it with brainchop-models get {name}'
        )
    names = sorted({name for folder in folders for name in list_models(folder)})
    hint = near(str(name_or_folder), [*names, *published_models()])
    raise ModelError(
        f'{name_or_folder}: no such model folder{hint}; '
        f'searched {searched}; models there: '
        f'{", ".join(names) or "none"} (give a folder, or set --models-dir); '
        f'brainchop-models list shows all'
    )


def list_models(folder: Path) -> list[str]:
    """Return the sorted names of the model folders in a folder, which may be missing."""
    try:
        paths = list(folder.iterdir())
    except OSError:
        return []
    # Hidden folders are those that are not complete yet.
    shown = [path for path in paths if not path.name.startswith('.')]
    return sorted(path.name for path in shown if os.path.isdir(path) and holds_model(path))


def cache_folder(models_dir: str | Path | None = None) -> Path:
    """Return the folder of fetched models.

    Parameters
    ----------
    models_dir : path, optional
        The folder, if given.

    Returns
    -------
    Path
        By default ``$BRAINCHOP_MODELS``, else ``brainchop-bids/models`` in ``$XDG_CACHE_HOME`` or
        ``~/.cache``.
    """
    if models_dir is not None:
        return _expand_user(models_dir)
    if os.environ.get(ENVIRONMENT):
        return _expand_user(os.environ[ENVIRONMENT])
    base = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    return _expand_user(base) / 'brainchop-bids' / 'models'


def search_folders(models_dir: str | Path | None = None) -> list[Path]:
    """Return the folders that are searched for models, in order."""
    packaged = Path(__file__).resolve().parents[1] / 'data' / 'models'
    given = [] if models_dir is None else [_expand_user(models_dir)]
    return list(dict.fromkeys([packaged, cache_folder(), *given]))


def _expand_user(path: str | Path) -> Path:
    """Replace ``~`` by the home folder, if there is one."""
    # Path.expanduser raises without a home folder.
    return Path(os.path.expanduser(path))

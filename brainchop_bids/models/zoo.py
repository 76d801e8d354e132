"""Where models lie."""

import os
from pathlib import Path

from ..errors import ModelError
from .formats.manifest import TOPOLOGY

ENVIRONMENT = 'BRAINCHOP_MODELS'


def find_model(name_or_folder: str | Path, models_dir: str | Path | None = None) -> Path:
    """Return the folder of a model.

    Parameters
    ----------
    name_or_folder : str or path
        A model's folder, or its name in one of the places below.
    models_dir : path, optional
        A folder of model folders, looked into first.

    Returns
    -------
    Path
        The first that exists of: the folder itself, ``models_dir/name``,
        ``$BRAINCHOP_MODELS/name``, and the packaged models.

    Raises
    ------
    ModelError
        Listing where it was looked for and which models there are.
    """
    given = Path(name_or_folder).expanduser()
    if given.is_dir():
        return given
    if given.exists():
        raise ModelError(
            f'{given}: is a file; expected the folder of a model, with its {TOPOLOGY}'
        )
    places = _places(models_dir)
    # A path that does not exist is a slip of the pen, not a name to look up elsewhere.
    if given.name == str(name_or_folder):
        for place in places:
            if (place / given).is_dir():
                return place / given
    names = sorted({name for place in places for name in list_models(place)})
    looked = ', '.join(str(place) for place in places)
    raise ModelError(
        f'{name_or_folder}: no such model folder; looked in {looked}; '
        f'models there: {", ".join(names) or "none"} (give a folder, or set --models-dir)'
    )


def list_models(folder: Path) -> list[str]:
    """Return the names of the model folders in a folder, sorted; none where it is missing."""
    try:
        return sorted(path.name for path in folder.iterdir() if (path / TOPOLOGY).is_file())
    except OSError:
        return []


def _places(models_dir: str | Path | None) -> list[Path]:
    places = [] if models_dir is None else [Path(models_dir).expanduser()]
    if os.environ.get(ENVIRONMENT):
        places.append(Path(os.environ[ENVIRONMENT]).expanduser())
    return [*places, Path(__file__).resolve().parents[1] / 'data' / 'models']

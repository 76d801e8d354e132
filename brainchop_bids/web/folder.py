"""The static folder of the browser app: the built page and models in the form that it reads."""

import json
import shutil
import uuid
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

from ..models import DEFAULT_MODEL
from ..models.formats.web_manifest import MANIFEST, WEIGHTS, write_model
from ..models.spec import ModelSpec, load_spec
from ..models.zoo import find_model, list_models, search_folders
from ..system.atomic import write_text, writing
from ..system.errors import BrainchopError, ModelError, SettingsError

_PAGE = Path(__file__).resolve().parents[1] / 'data' / 'web'
_CARD = 'README.md'
_LICENSE = 'LICENSE'


def built_page() -> Path:
    """Return the folder of the built page.

    Returns
    -------
    Path

    Raises
    ------
    SettingsError
        If this installation has none.
    """
    if not (_PAGE / 'index.html').is_file():
        raise SettingsError(
            'the page of the browser app is not built here; run make web in the repository '
            '(it needs Node 20.19 or later), or install a wheel of brainchop-bids'
        )
    return _PAGE


def web_models(
    names: Sequence[str],
    models_dir: Path | None = None,
    *,
    report: Callable[[str], object] = lambda line: None,
) -> list[ModelSpec]:
    """Load models for the page, each with its localiser.

    Parameters
    ----------
    names : sequence of str
        Names or folders; none for all models of the package, the default one first.
    models_dir : Path, optional
        A folder of model folders.
    report : callable, optional
        Gets a line for each localiser that is missing.

    Returns
    -------
    list of ModelSpec
        In the given order; localisers at the end.

    Raises
    ------
    ModelError
        If a model that is named cannot be found or read, or two have the same name.
    """
    packaged = search_folders()[0]
    own = sorted(list_models(packaged), key=lambda name: name != DEFAULT_MODEL)
    folders = [find_model(name, models_dir) for name in names or own]
    found = {spec.folder: spec for spec in map(load_spec, folders)}
    for spec in list(found.values()):
        if spec.localiser is None:
            continue
        try:
            other = load_spec(find_model(spec.localiser, models_dir))
        except BrainchopError as error:
            report(f'{spec.name} goes without its localiser: {error}')
        else:
            found.setdefault(other.folder, other)
    specs = sorted(found.values(), key=lambda spec: spec.localises)
    seen: dict[str, Path] = {}
    for spec in specs:
        if spec.name in seen:
            raise ModelError(
                f'{spec.folder}: has the name {spec.name} of {seen[spec.name]}; rename one of them'
            )
        seen[spec.name] = spec.folder
    if all(spec.localises for spec in specs):
        raise ModelError(f'{specs[0].folder}: labels nothing; name a model that does, too')
    return specs


def write_site(folder: Path, specs: Sequence[ModelSpec]) -> None:
    """Write the page and models, for any web server.

    Parameters
    ----------
    folder : Path
        New or empty folder; after an error it is as before.
    specs : sequence of ModelSpec
        Models, from `web_models`. Each becomes a folder in ``models``, which ``models/index.json``
        lists.

    Raises
    ------
    SettingsError
        If the page is not built.
    ModelError
        If the page cannot run a model.
    OutputError
        If a file cannot be written.
    """
    page = built_page()
    staged = folder.with_name(f'.{folder.name}.{uuid.uuid4().hex[:12]}')
    try:
        with writing(folder):
            shutil.copytree(page, staged)
            license_file = _license()
            if license_file is not None:
                shutil.copyfile(license_file, staged / _LICENSE)
        listed = [_write_model(staged / 'models' / spec.name, spec) for spec in specs]
        index = json.dumps({'models': listed}, indent=1) + '\n'
        write_text(staged / 'models' / 'index.json', index)
        with writing(folder):
            if folder.is_dir():
                folder.rmdir()
            staged.rename(folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _write_model(folder: Path, spec: ModelSpec) -> dict[str, Any]:
    """Write a model; return what the index says of it."""
    with writing(folder):
        folder.mkdir(parents=True)
    write_model(spec, folder)
    if (spec.folder / _CARD).is_file():
        with writing(folder):
            shutil.copyfile(spec.folder / _CARD, folder / _CARD)
    manifest = json.loads((folder / MANIFEST).read_text(encoding='utf-8'))
    keys = ('name', 'task', 'status', 'license', 'parameters', 'localiser', 'sha256')
    return {
        **{key: manifest[key] for key in keys if key in manifest},
        'labels': [{'name': label['name']} for label in manifest['labels']],
        'files': [MANIFEST, WEIGHTS],
    }


def _license() -> Path | None:
    """Return the licence of this package: in a repository, or in the installation's metadata."""
    beside = _PAGE.parents[2] / _LICENSE
    if beside.is_file():
        return beside
    try:
        listed = files('brainchop-bids') or []
    except PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in listed if file.name == _LICENSE), None)

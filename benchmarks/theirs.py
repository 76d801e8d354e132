"""PyPI's brainchop 0.2.5, started with the models and the home folder that it wants."""

import os
from pathlib import Path

from processes import Run, run

from brainchop_bids.models.convert import write_network
from brainchop_bids.models.formats import read_network

HERE = Path(__file__).resolve().parent


def peer_model(model: Path, place: Path) -> Path:
    """Write a model as the peer reads it, into a folder to be made."""
    write_network(read_network(model)[0], 'safetensors', place)
    # The name that it looks for; it reads safetensors by it too.
    (place / 'model.safetensors').rename(place / 'model.pth')
    return place


def run_peer(python: Path, work: Path, *arguments: object) -> Run:
    """Run ``peer.py`` in a home of its own, so that nobody's cache is used or touched."""
    listing = work / 'home' / '.cache' / 'brainchop' / 'models.json'
    listing.parent.mkdir(parents=True, exist_ok=True)
    # It wants a listing of its models, and downloads one where there is none.
    listing.write_text('{}')
    # Not resolved: the link in the venv is what makes it that venv.
    python = Path(python).absolute()
    path = os.pathsep.join([str(python.parent), os.environ.get('PATH', '')])
    return run(
        [str(python), str(HERE / 'peer.py'), *map(str, arguments)],
        environment={**os.environ, 'HOME': str(work / 'home'), 'PATH': path},
    )

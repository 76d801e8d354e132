"""Files that a dataset's ``.bidsignore`` leaves out."""

from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pathspec

NAME = '.bidsignore'


def read_bidsignore(bids_dir: Path) -> tuple[Callable[[str], bool], list[str]]:
    """Read the patterns of a dataset's ``.bidsignore``.

    They are those of ``.gitignore``, as for the BIDS validator; the last pattern that matches a
    path decides.

    Parameters
    ----------
    bids_dir : Path
        Root of the dataset.

    Returns
    -------
    ignores : callable
        Takes a path relative to the root, with forward slashes; returns True if it is ignored.
    notes : list of str
        One line for each pattern that is invalid, or if the file cannot be read.
    """
    path = bids_dir / NAME
    # A pipe or a device would never come to an end.
    if not path.is_file():
        return (lambda relative: False), []
    try:
        lines = path.read_text(encoding='utf-8-sig', errors='replace').splitlines()
    except OSError as error:
        return (lambda relative: False), [
            f'{path}: cannot be read ({error.strerror}); nothing is ignored'
        ]
    valid, notes = [], []
    for number, line in enumerate(lines, 1):
        try:
            pathspec.GitIgnoreSpec.from_lines([line])
        except ValueError:
            notes.append(f'{path}: line {number} is no pattern: {line!r}; it is left out')
        else:
            valid.append(line)
    spec = pathspec.GitIgnoreSpec.from_lines(valid)

    def ignores(relative: str) -> bool:
        # No pattern brings back what lies in an ignored folder.
        folders = [f'{folder}/' for folder in PurePosixPath(relative).parents][:-1]
        return any(map(spec.match_file, [relative, *folders]))

    return ignores, notes

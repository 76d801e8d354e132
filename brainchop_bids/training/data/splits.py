"""Splits into training and held-out scans; all scans of a subject are on the same side."""

import difflib
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ...system.errors import DatasetError, SettingsError
from ..options import DataOptions
from .datasets import TEST, TRAINING, VALIDATION, Example, bare, from_bids, from_table
from .layouts import LAYOUTS


def find_examples(data: DataOptions, warnings: list[str] | None = None) -> list[Example]:
    """Find labelled scans.

    Parameters
    ----------
    data : DataOptions
        Has either a ``table``, a dataset ``bids`` with its ``derivatives``, or a ``folder`` with
        its ``layout``.
    warnings : list of str, optional
        Extended by a line for each scan of a dataset that is skipped.

    Returns
    -------
    list of Example
        With unique names.

    Raises
    ------
    SettingsError
        If none or several of the three are given, or the layout is unknown.
    DatasetError
        If there are no examples, a file is missing, or two subjects share a file.
    """
    given = [key for key in ('table', 'bids', 'folder') if getattr(data, key)]
    if len(given) != 1:
        raise SettingsError(
            f'data has {" and ".join(given) or "no source of scans"}; expected one of table, '
            'bids and folder'
        )
    if not data.channels:
        raise SettingsError('data.channels is empty; expected suffixes, as in ["T1w"]')
    if data.table:
        examples = from_table(data)
    elif data.bids:
        examples = from_bids(data, [] if warnings is None else warnings)
    else:
        examples = _from_folder(data)
    _check_files(examples)
    return _named_apart(examples)


def split(
    examples: Sequence[Example], data: DataOptions, seed: int = 0
) -> tuple[list[Example], list[Example]]:
    """Split examples into training and held-out ones, by subject.

    Parameters
    ----------
    examples : sequence of Example
        From `find_examples`.
    data : DataOptions
        Subjects to ``hold_out``, the share to train on (``split``), or the ``fold`` of a number
        of ``folds``; with none, the dataset's own split is used.
    seed : int
        Seed of the draw, with ``split``.

    Returns
    -------
    training, held_out : list of Example
        Examples that a dataset assigns to ``test`` are in neither.

    Raises
    ------
    SettingsError
        If subjects are unknown, folds are out of range, or splits contradict each other.
    DatasetError
        If a dataset's split has a subject on both sides, or no training data remain.
    """
    held = {bare(subject) for subject in data.hold_out}
    marked = any(example.split for example in examples)
    rules = [
        (held, 'data.hold_out'),
        (data.split, 'data.split'),
        (data.folds, 'data.folds'),
        (marked, 'a column split'),
    ]
    given = [name for value, name in rules if value]
    if len(given) > 1:
        raise SettingsError(f'{" and ".join(given)} both say what is held out; keep one')
    if marked:
        training, validation = _as_marked(examples)
    else:
        if data.folds:
            held = _fold(examples, data)
        elif data.split:
            held = draw_held_out({example.subject for example in examples}, data.split, seed)
        _check_known(held, examples)
        training = [example for example in examples if example.subject not in held]
        validation = [example for example in examples if example.subject in held]
    if not training:
        raise DatasetError('nothing is left to train on; hold out fewer subjects')
    return training, validation


def fold_of(subjects: Sequence[str], folds: int) -> dict[str, int]:
    """Assign subjects to folds whose sizes differ by one at most.

    Their order is that of the SHA-256 of their labels, which is the same in every run and
    independent of how a study numbers its groups.

    Parameters
    ----------
    subjects : sequence of str
        Labels; duplicates count once.
    folds : int
        Number of folds.

    Returns
    -------
    dict of str to int
        Fold of each subject, from 0.

    Examples
    --------
    >>> sorted(fold_of(['01', '02', '03', '02'], 3).values())
    [0, 1, 2]
    """
    ordered = sorted(set(subjects), key=lambda label: hashlib.sha256(label.encode()).digest())
    return {subject: number % folds for number, subject in enumerate(ordered)}


def draw_held_out(names: Iterable[str], share: float, seed: int) -> set[str]:
    """Draw the subjects or label maps that are held out.

    Their order is that of the SHA-256 of seed and name, as in `fold_of`.

    Parameters
    ----------
    names : iterable of str
        All names.
    share : float
        Share to train on; at least one is trained on, and one held out.
    seed : int
        Seed of the draw.

    Returns
    -------
    set of str

    Raises
    ------
    SettingsError
        If there are fewer than two.

    Examples
    --------
    >>> len(draw_held_out(['01', '02', '03', '04', '05'], 0.8, 0))
    1
    """
    names = set(names)
    if len(names) < 2:
        raise SettingsError(f'data.split is {share:g}, but there is one subject or label map only')
    ordered = sorted(names, key=lambda name: hashlib.sha256(f'{seed}:{name}'.encode()).digest())
    return set(ordered[: min(max(1, round((1 - share) * len(names))), len(names) - 1)])


def _fold(examples: Sequence[Example], data: DataOptions) -> set[str]:
    subjects = {example.subject for example in examples}
    if data.folds < 2:
        raise SettingsError(f'data.folds is {data.folds}; expected 2 or more, or 0 for none')
    if not 0 <= data.fold < data.folds:
        raise SettingsError(f'data.fold is {data.fold}; expected 0 to {data.folds - 1}')
    if len(subjects) < data.folds:
        raise SettingsError(
            f'data.folds is {data.folds}, but there are {len(subjects)} subjects; expected no '
            'more folds than subjects'
        )
    places = fold_of(sorted(subjects), data.folds)
    return {subject for subject, place in places.items() if place == data.fold}


def _check_known(held: set[str], examples: Sequence[Example]) -> None:
    subjects = sorted({example.subject for example in examples})
    unknown = sorted(held - set(subjects))
    if unknown:
        near = difflib.get_close_matches(unknown[0], subjects, 1)
        some = ', '.join(subjects[:12]) + (', ...' if len(subjects) > 12 else '')
        hint = f'did you mean {near[0]}?' if near else f'there are {some}'
        raise SettingsError(f'data.hold_out: no subject {", ".join(unknown)}; {hint}')


def _as_marked(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    places: dict[str, str] = {}
    for example in examples:
        if not example.split:
            raise DatasetError(
                f'{example.name}: has no split, others have; expected {TRAINING}, {VALIDATION} or '
                f'{TEST}'
            )
        if places.setdefault(example.subject, example.split) != example.split:
            raise DatasetError(
                f'subject in two splits: sub-{example.subject} is in {places[example.subject]} '
                f'and in {example.split}; all scans of a subject belong on one side'
            )
    training = [example for example in examples if example.split == TRAINING]
    return training, [example for example in examples if example.split == VALIDATION]


def _from_folder(data: DataOptions) -> list[Example]:
    folder = Path(data.folder).expanduser()
    if data.layout not in LAYOUTS:
        raise SettingsError(
            f'data.layout is {data.layout!r}; expected one of {", ".join(sorted(LAYOUTS))}'
        )
    if not folder.is_dir():
        raise DatasetError(f'{folder}: no such folder; see data.folder')
    return LAYOUTS[data.layout](folder, data.channels)


def _check_files(examples: Sequence[Example]) -> None:
    """Raise if subjects share a file, since one may be held out, or if an example is repeated."""
    owners: dict[Path, str] = {}
    seen: set[tuple[Path, ...]] = set()
    for example in examples:
        files = (*example.images, example.labels)
        for path in files:
            owner = owners.setdefault(path.resolve(), example.subject)
            if owner != example.subject:
                raise DatasetError(
                    f'{path}: belongs to sub-{owner} and to sub-{example.subject}; a scan has one '
                    'subject'
                )
        if files in seen:
            raise DatasetError(
                f'{example.labels}: is there twice with the same images (sub-{example.subject}); '
                'take one out'
            )
        seen.add(files)


def _named_apart(examples: Sequence[Example]) -> list[Example]:
    """Append numbers to repeated names."""
    named: dict[str, Example] = {}
    for example in examples:
        name, number = example.name, 1
        while name in named:
            number += 1
            name = f'{example.name}_{number}'
        named[name] = replace(example, name=name)
    return list(named.values())

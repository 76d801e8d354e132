"""FreeSurfer's codes of the structures that brain segmentation networks name."""

_ASEG = {
    'Unknown': 0,
    'CSF': 24,
    '3rd-Ventricle': 14,
    '4th-Ventricle': 15,
    'Brain-Stem': 16,
    '5th-Ventricle': 72,
    'WM-hypointensities': 77,
    'non-WM-hypointensities': 80,
    'Optic-Chiasm': 85,
    'CC_Posterior': 251,
    'CC_Mid_Posterior': 252,
    'CC_Central': 253,
    'CC_Mid_Anterior': 254,
    'CC_Anterior': 255,
}

# name without its side: (left, right)
_PAIRS = {
    'Cerebral-White-Matter': (2, 41),
    'Cerebral-Cortex': (3, 42),
    'Lateral-Ventricle': (4, 43),
    'Inf-Lat-Vent': (5, 44),
    'Cerebellum-White-Matter': (7, 46),
    'Cerebellum-Cortex': (8, 47),
    'Thalamus': (10, 49),
    'Thalamus-Proper': (10, 49),
    'Thalamus-Proper*': (10, 49),
    'Caudate': (11, 50),
    'Putamen': (12, 51),
    'Pallidum': (13, 52),
    'Hippocampus': (17, 53),
    'Amygdala': (18, 54),
    'Accumbens-area': (26, 58),
    'VentralDC': (28, 60),
    'vessel': (30, 62),
    'choroid-plexus': (31, 63),
    'Substancia-Nigra': (27, 59),
    'WM-hypointensities': (78, 79),
    'non-WM-hypointensities': (81, 82),
}
# Names that models give to these structures where both sides have one label.
_OTHER_NAMES = {
    'Thalamus-Proper': 'Thalamus',
    'Inferior-Lateral-Ventricle': 'Inf-Lat-Vent',
    'Corpus callosum': 'Corpus_Callosum',
}

# The Desikan-Killiany regions in the order of their codes; 4 is the corpus callosum, which the
# volumetric segmentation does not use.
_REGIONS = (
    'unknown bankssts caudalanteriorcingulate caudalmiddlefrontal corpuscallosum cuneus '
    'entorhinal fusiform inferiorparietal inferiortemporal isthmuscingulate lateraloccipital '
    'lateralorbitofrontal lingual medialorbitofrontal middletemporal parahippocampal '
    'paracentral parsopercularis parsorbitalis parstriangularis pericalcarine postcentral '
    'posteriorcingulate precentral precuneus rostralanteriorcingulate rostralmiddlefrontal '
    'superiorfrontal superiorparietal superiortemporal supramarginal frontalpole temporalpole '
    'transversetemporal insula'
)


def _codes() -> dict[str, int]:
    codes = dict(_ASEG)
    for name, (left, right) in _PAIRS.items():
        codes[f'Left-{name}'], codes[f'Right-{name}'] = left, right
    for offset, name in enumerate(_REGIONS.split()):
        codes[f'ctx-lh-{name}'], codes[f'ctx-rh-{name}'] = 1000 + offset, 2000 + offset
    return codes


_CODES = _codes()


def freesurfer_code(name: str) -> int | None:
    """Return the code of a structure that FreeSurfer calls exactly so, else None.

    Examples
    --------
    >>> freesurfer_code('Left-Hippocampus'), freesurfer_code('ctx-rh-insula')
    (17, 2035)
    >>> freesurfer_code('Hippocampus') is None
    True
    """
    return _CODES.get(name)


CORTEX, CALLOSUM = 'Cerebral-Cortex', 'Corpus_Callosum'
# Two of the names are no regions of the cortex: its border and the corpus callosum.
REGIONS = tuple(
    f'ctx-{name}' for name in _REGIONS.split() if name not in ('unknown', 'corpuscallosum')
)


def _structures() -> tuple[dict[int, tuple[str, str]], dict[str, str]]:
    """Return structure and side by code, and the structure by its name of letters and digits."""
    structures = {code: (name, '') for name, code in _ASEG.items()}
    structures |= dict.fromkeys((192, *range(251, 256)), (CALLOSUM, ''))
    for name, pair in _PAIRS.items():
        for code, side in zip(pair, ('left', 'right'), strict=True):
            structures.setdefault(code, (name, side))
    for name in REGIONS:
        for side in ('left', 'right'):
            code = _CODES[name.replace('ctx', f'ctx-{side[0]}h')]
            structures[code] = name, side
    names = {_plain(name): name for name, _ in structures.values()}
    return structures, names | {_plain(name): same for name, same in _OTHER_NAMES.items()}


def _plain(name: str) -> str:
    return ''.join(filter(str.isalnum, name.lower()))


_BY_CODE, _BY_NAME = _structures()


def structure_and_side(name: str, code: int | None) -> tuple[str, str] | None:
    """Return the structure of FreeSurfer's that a label is, and its side.

    Parameters
    ----------
    name : str
        Name of the label; it counts where there is no code.
    code : int or None
        FreeSurfer's code.

    Returns
    -------
    tuple of (str, str) or None
        FreeSurfer's name without the side, and ``'left'``, ``'right'`` or an empty string for
        structures that have no side or where one label has both; None for all other labels.

    Examples
    --------
    >>> structure_and_side('Left-Hippocampus', 17), structure_and_side('Thalamus-Proper*', None)
    (('Hippocampus', 'left'), ('Thalamus', ''))
    >>> structure_and_side('ctx-rh-insula', 2035), structure_and_side('Grey Matter', None)
    (('ctx-insula', 'right'), None)
    """
    if code is not None:
        return _BY_CODE.get(code)
    structure = _BY_NAME.get(_plain(name))
    return None if structure is None else (structure, '')


# Hundreds or thousands of parcels of a hemisphere, and the structure that they are parts of:
# aparc, wmparc, and both with the parcels of Destrieux et al. (2010).
_PARCELS = {1: 3, 2: 42, 3: 2, 4: 41, 11: 3, 12: 42, 13: 2, 14: 41}


def structure_of(code: int) -> int:
    """Return the code of the structure that a parcel of aparc, wmparc or the callosum is part of.

    Parameters
    ----------
    code : int
        Any code.

    Returns
    -------
    int
        Code of the cortex or the white matter of its side, the left one for the corpus callosum;
        the same code for other structures.

    Examples
    --------
    >>> structure_of(1035), structure_of(4001), structure_of(5002), structure_of(17)
    (3, 41, 41, 17)
    """
    if code == 5002:
        return 41
    if code in (192, 5001) or 251 <= code <= 255:
        return 2
    return _PARCELS.get(code // 1000, code)

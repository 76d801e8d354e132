"""Descriptions of the image quality measures."""

_TISSUES = {'csf': 'fluid', 'gm': 'grey matter', 'wm': 'white matter', 'bg': 'air'}
_STATISTICS = {
    'mean': 'mean',
    'median': 'median',
    'stdv': 'standard deviation',
    'mad': 'median absolute deviation, scaled to a standard deviation',
    'p05': '5th percentile',
    'p95': '95th percentile',
    'k': 'excess kurtosis',
    'n': 'number of voxels',
}
_AXES = {'x': 'left to right', 'y': 'back to front', 'z': 'below to above', 'avg': 'mean of all'}
_WHOLE = {
    'cjv': 'coefficient of joint variation of grey and white matter; lower is better',
    'cnr': 'contrast of grey and white matter to noise; higher is better',
    'efc': 'entropy focus criterion, blur and ghosts; lower is better',
    'fber': 'energy of the head over that of the background; higher is better',
    'confidence': 'mean over labels of the probability that the network gives to them; no measure '
    "of MRIQC's",
    'wm2max': 'white matter over the brightest voxels; 0.6 to 0.8 is usual',
}


def describe_measure(name: str) -> str:
    """Describe a measure in words.

    Parameters
    ----------
    name : str
        Name as in MRIQC.

    Returns
    -------
    str
        Empty for unknown names.

    Examples
    --------
    >>> describe_measure('snr_gm')
    'signal to noise of grey matter; higher is better'
    >>> describe_measure('summary_wm_mad')
    'white matter: median absolute deviation, scaled to a standard deviation'
    """
    kind, _, what = name.partition('_')
    region, _, statistic = what.partition('_')
    of = 'all tissues' if what == 'total' else _TISSUES.get(what, '')
    if kind == 'summary' and region in _TISSUES and statistic in _STATISTICS:
        return f'{_TISSUES[region]}: {_STATISTICS[statistic]}'
    if kind == 'snr' and of:
        return f'signal to noise of {of}; higher is better'
    if kind == 'snrd' and of:
        return f'signal of {of} to noise of air; higher is better'
    if kind == 'icvs' and of:
        return f'share of {of} in the volume inside the skull'
    if kind == 'fwhm' and what in _AXES:
        return f'smoothness, {_AXES[what]}, in voxels; lower is sharper'
    return _WHOLE.get(name, '')

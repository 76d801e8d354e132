"""Flag on how certain a network was of its own labels."""

from ..models.confidence_limit import ConfidenceLimit
from .flags import Flag


def confidence_flags(confidence: float | None, limit: ConfidenceLimit | None) -> list[Flag]:
    """Return the flag ``low-confidence`` where a network was less certain than it should be.

    Parameters
    ----------
    confidence : float or None
        See `brainchop_bids.inference.confidence.mean_confidence`.
    limit : ConfidenceLimit or None
        The limit of the model; None if it was not calibrated.

    Returns
    -------
    list of Flag

    Examples
    --------
    >>> limit = ConfidenceLimit(0.8, dice=0.7, hits=17, bad=18, false_alarms=1, good=12)
    >>> confidence_flags(0.85, limit), [flag.name for flag in confidence_flags(0.7, limit)]
    ([], ['low-confidence'])
    """
    if confidence is None or limit is None or confidence >= limit.least:
        return []
    reason = (
        f'The mean probability that the network gives to its labels is {confidence:.2f}; expected '
        f'at least {limit.least:g}. Of images spoilt on purpose, this limit marked {limit.hits} '
        f'of the {limit.bad} whose labels were bad (mean Dice below {limit.dice:g}), and '
        f'{limit.false_alarms} of the {limit.good} others.'
    )
    return [Flag('low-confidence', round(confidence, 3), reason)]

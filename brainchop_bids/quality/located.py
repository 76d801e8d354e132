"""Flags on where a scan's brain was found before it was segmented."""

from ..inference.localise.localisation import (
    LEAST_CERTAINTY,
    MOST_ACROSS_CM2,
    MOST_BELOW_CM2,
    Localisation,
)
from ..inference.localise.orientation import in_words
from .flags import Flag


def localisation_flags(found: Localisation) -> list[Flag]:
    """Return the flags that follow from where an organ was found.

    Parameters
    ----------
    found : Localisation
        What was found, after labels far from it were removed.

    Returns
    -------
    list of Flag
        ``not-localised`` if no label could be removed, because nothing was found, not with
        certainty, or the box seems to cut the organ; ``header-orientation`` if the header
        disagrees with what is seen.
    """
    flags = []
    organ = found.organ.lower()
    effect = 'labels far from it were not removed, and the conformed field of view was not moved.'
    if found.box is None:
        flags.append(Flag('not-localised', None, f'No {organ} was found by localising: {effect}'))
    elif found.region is None:
        flags.append(
            Flag(
                'not-localised',
                found.certainty,
                f'The {organ} was localised with a certainty of {found.certainty:.2f}; expected '
                f'at least {LEAST_CERTAINTY:g}: {effect}',
            )
        )
    elif found.cuts:
        flags.append(
            Flag(
                'not-localised',
                found.across_cm2,
                f'{found.across_cm2:g} cm² of labels go on beyond the box in which the {organ} '
                f'was localised; expected at most {MOST_ACROSS_CM2:g} cm², or '
                f'{MOST_BELOW_CM2:g} cm² below: the box may be wrong, '
                'and labels beyond it were not removed.',
            )
        )
    if found.disagrees:
        suggested = {found.seen.replace('R', side) for side in 'LR'}
        flags.append(
            Flag(
                'header-orientation',
                found.orientation_certainty,
                f'By the header the axes advance to {in_words(found.header)}, but what is seen '
                f'agrees with {in_words(found.seen)} (certainty '
                f'{found.orientation_certainty:.2f}): the axis codes may be '
                f'{" or ".join(sorted(suggested))}. Nothing was changed.',
            )
        )
    return flags

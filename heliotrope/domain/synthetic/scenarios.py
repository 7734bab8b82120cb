"""Named settings of the knobs: the stories that examples and tests tell."""

from dataclasses import replace
from datetime import timedelta

from heliotrope.domain.synthetic.knobs import (
    ConceptShift,
    CovariateShift,
    LoanKnobs,
    Ramp,
)


def economy_turns(
    knobs: LoanKnobs, after: float = 0.7, strength: float = 0.6, over: timedelta = timedelta(0)
) -> LoanKnobs:
    """The economy turns: applicants are worse off, and other things make them default.

    Args:
        knobs: what else is asked for.
        after: share of the period that passes before it turns.
        strength: of both shifts, 0 to 1.
        over: how long it takes; 0 is at once.
    """
    start = knobs.start + timedelta(days=knobs.days * after)
    ramp = Ramp(start, over)
    return replace(
        knobs,
        covariate_shifts=(*knobs.covariate_shifts, CovariateShift(0.5 * strength, ramp)),
        concept_shifts=(
            *knobs.concept_shifts,
            ConceptShift(strength=strength, log_odds=0.5 * strength, ramp=ramp),
        ),
    )


def renters_turn(knobs: LoanKnobs, after: float = 0.7, strength: float = 1.0) -> LoanKnobs:
    """The same, for those who rent only: what a check of the whole may miss and a slice shows."""
    start = knobs.start + timedelta(days=knobs.days * after)
    shift = ConceptShift(strength=strength, ramp=Ramp(start), segment=("homeownership", "RENT"))
    return replace(knobs, concept_shifts=(*knobs.concept_shifts, shift))


def clear_cut(knobs: LoanKnobs) -> LoanKnobs:
    """Defaults are common and easy to foresee, so that accuracy means something.

    At a default rate of 2% "nobody defaults" is right 98 times in 100 and accuracy tells nothing.
    Here 30% default and the features say nearly surely who: a good model is right 94 times in 100.
    """
    return replace(knobs, default_rate=0.3, signal=9.0)

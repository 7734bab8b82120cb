"""Generated loans: a volume of them, fitted to real ones, with known truth and trouble on demand.

>>> from heliotrope.domain.synthetic import LoanKnobs, generate_loans
>>> loans = generate_loans(LoanKnobs(rows=1000, seed=1))
>>> len(loans), loans.columns["annual_income"].shape, loans.probability.shape
(1000, (1000,), (1000,))
"""

from heliotrope.domain.synthetic.columns import Categorical, Column, LoanBatch
from heliotrope.domain.synthetic.knobs import (
    ConceptShift,
    CovariateShift,
    Fault,
    FaultKind,
    LabelNoise,
    LoanKnobs,
    Ramp,
)
from heliotrope.domain.synthetic.loans import LoanGenerator, generate_loans
from heliotrope.domain.synthetic.scenarios import clear_cut, economy_turns, renters_turn

__all__ = [
    "Categorical",
    "Column",
    "ConceptShift",
    "CovariateShift",
    "Fault",
    "FaultKind",
    "LabelNoise",
    "LoanBatch",
    "LoanGenerator",
    "LoanKnobs",
    "Ramp",
    "clear_cut",
    "economy_turns",
    "generate_loans",
    "renters_turn",
]

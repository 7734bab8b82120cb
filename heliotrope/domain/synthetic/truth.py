"""What makes a generated loan default: the truth that a model has to find.

The log-odds are `intercept + signal * score`, where the score is a scorecard over the columns as
the applicant had them, standardized to mean 0 and variance 1 over the unshifted population. Signs
and sizes are a lender's common sense, not a fit: 178 defaults among the real loans are too few to
fit 24 weights to. A few interactions make it a little more than a linear model.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from heliotrope.domain.synthetic.columns import Categorical, Column, Floats


@dataclass(frozen=True)
class Term:
    """One number's part: weight * clip((f(x) - centre) / spread, -3, 3)."""

    weight: float
    centre: float
    spread: float
    log: bool = False
    """f is log(1 + x) rather than x."""
    missing: float = 0.0
    """What a missing value counts as, in standard deviations."""

    def standard(self, values: Floats) -> Floats:
        """The standardized value [rows], unweighted."""
        scaled = (np.log1p(values) if self.log else values) - self.centre
        scaled /= self.spread
        np.clip(scaled, -3.0, 3.0, out=scaled)
        return np.nan_to_num(scaled, copy=False, nan=self.missing)


@dataclass(frozen=True)
class Scorecard:
    """A score of risk: higher defaults more."""

    numbers: Mapping[str, Term]
    words: Mapping[str, Mapping[str, float]]
    products: tuple[tuple[str, str, float], ...] = ()
    """Weight of the product of two numbers' standardized values."""

    def score(self, columns: Mapping[str, Column]) -> Floats:
        """[rows], not yet standardized."""
        standard = {
            name: term.standard(np.asarray(columns[name], dtype=np.float64))
            for name, term in self.numbers.items()
        }
        total: Floats = np.zeros(len(next(iter(standard.values()))))
        for name, term in self.numbers.items():
            total += term.weight * standard[name]
        for name, weights in self.words.items():
            column = columns[name]
            if isinstance(column, Categorical):
                table = np.array([*(weights.get(word, 0.0) for word in column.values), 0.0])
                total += table[column.codes]
        for left, right, weight in self.products:
            total += weight * standard[left] * standard[right]
        return total


def _numbers(weights: Mapping[str, float]) -> dict[str, Term]:
    return {name: Term(weight, *_SCALES[name]) for name, weight in weights.items()}


_SCALES: dict[str, tuple[float, float, bool, float]] = {
    # centre, spread, log, what missing counts as
    "loan_amount": (9.5, 0.75, True, 0.0),
    "term": (43.0, 11.0, False, 0.0),
    "interest_rate": (12.4, 5.0, False, 0.0),
    "annual_income": (11.1, 0.6, True, -2.0),
    "emp_length": (5.9, 3.7, False, -2.5),
    "debt_to_income": (19.3, 12.0, False, 2.0),
    "delinq_2y": (0.2, 0.7, False, 0.0),
    "months_since_last_delinq": (37.0, 22.0, False, 1.5),
    "inquiries_last_12m": (2.0, 2.4, False, 0.0),
    "accounts_opened_24m": (4.4, 3.1, False, 0.0),
    "num_mort_accounts": (1.4, 1.7, False, 0.0),
    "total_credit_limit": (11.7, 1.0, True, 0.0),
    "public_record_bankrupt": (0.1, 0.35, False, 0.0),
    "credit_history_years": (16.7, 7.8, False, 0.0),
    "credit_utilization": (0.4, 0.25, False, 0.0),
}

ESTABLISHED = Scorecard(
    numbers=_numbers(
        {
            "interest_rate": 0.50,
            "annual_income": -0.50,
            "debt_to_income": 0.40,
            "emp_length": -0.30,
            "inquiries_last_12m": 0.30,
            "credit_utilization": 0.30,
            "credit_history_years": -0.20,
            "term": 0.20,
            "delinq_2y": 0.20,
            "loan_amount": 0.15,
            "public_record_bankrupt": 0.15,
        }
    ),
    words={
        "homeownership": {"RENT": 0.30, "MORTGAGE": -0.25},
        "loan_purpose": {"small_business": 0.8, "medical": 0.3, "credit_card": -0.2},
        "verified_income": {"Verified": -0.15, "Not Verified": 0.1},
    },
    products=(("interest_rate", "debt_to_income", 0.10), ("annual_income", "emp_length", 0.10)),
)
"""Good times: income, steady work and a house protect; dear credit and debts do not."""

TURNED = Scorecard(
    numbers=_numbers(
        {
            "interest_rate": 0.05,
            "annual_income": 0.10,
            "debt_to_income": 0.45,
            "emp_length": -0.15,
            "credit_utilization": 0.35,
            "loan_amount": 0.45,
            "num_mort_accounts": 0.45,
            "total_credit_limit": 0.20,
            "accounts_opened_24m": 0.30,
            "credit_history_years": 0.10,
        }
    ),
    words={
        "homeownership": {"MORTGAGE": 0.35, "RENT": -0.15},
        "loan_purpose": {"small_business": 0.8, "house": 0.6, "home_improvement": 0.4},
    },
    products=(("debt_to_income", "loan_amount", 0.10),),
)
"""The economy has turned: whoever carries much debt falls, and a house on credit is a burden."""


def sigmoid(log_odds: Floats) -> Floats:
    """Chance of log-odds, [rows] to [rows]."""
    # exp of a clipped value cannot overflow, and 1e-17 is no default in any number of rows.
    chance: Floats = 1.0 / (1.0 + np.exp(-np.clip(log_odds, -40.0, 40.0)))
    return chance


@dataclass(frozen=True)
class Truth:
    """Scorecards standardized over a reference population, and the intercept of a rate."""

    intercept: float
    signal: float
    established: tuple[float, float]
    """Mean and spread of its score over the reference."""
    turned: tuple[float, float]

    def probability(self, columns: Mapping[str, Column], mix: Floats, log_odds: Floats) -> Floats:
        """Chance of default [rows].

        Args:
            columns: as the applicants had them.
            mix: [rows], 0 for the established scorecard, 1 for the turned one.
            log_odds: [rows], added.
        """
        score = (ESTABLISHED.score(columns) - self.established[0]) / self.established[1]
        if mix.any():
            turned = (TURNED.score(columns) - self.turned[0]) / self.turned[1]
            score += mix * (turned - score)
        return sigmoid(self.intercept + self.signal * score + log_odds)


def calibrate(columns: Mapping[str, Column], rate: float, signal: float) -> Truth:
    """The truth whose mean chance over a reference population is `rate`, found by bisection."""
    scores = [card.score(columns) for card in (ESTABLISHED, TURNED)]
    scales = [(float(score.mean()), float(score.std())) for score in scores]
    score = (scores[0] - scales[0][0]) / scales[0][1]
    low, high = -400.0, 400.0
    for _ in range(60):
        middle = (low + high) / 2
        if sigmoid(middle + signal * score).mean() < rate:
            low = middle
        else:
            high = middle
    return Truth(low, signal, scales[0], scales[1])

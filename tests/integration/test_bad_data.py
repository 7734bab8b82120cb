"""Bad data on its way into training: each is refused or reported, and the words name it."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from heliotrope.adapters.delta_store import DeltaSnapshotStore
from heliotrope.adapters.reports import render_quality_html, render_quality_markdown
from heliotrope.adapters.snapshot_matrix import load_frame, load_matrix
from heliotrope.adapters.source_reader import DuckDBSourceReader
from heliotrope.domain.quality import Finding, QualityReport
from heliotrope.errors import DataFault
from heliotrope.service.snapshot import take_snapshot
from heliotrope.service.validation import validate_data
from heliotrope.spec import ModelSpec, parse_spec

NOW = datetime(2024, 6, 1, tzinfo=UTC)
ROWS = 2000
SPEC = """
name: toy
task: binary
entity_key: id
event_time: at
label: {name: y, positive: 1, delay: 30d}
source: {path: PATH}
features:
  - {name: income, type: float, min: 0, nullable: true}
  - {name: age, type: integer, min: 18, max: 100}
  - {name: zip, type: category, categories: ["01234", "0999", "07"], nullable: true}
  - {name: owner, type: boolean}
metrics: {primary: roc_auc}
validation: {out_of_bounds_share: SHARE}
"""


def loans(seed: int = 0, rows: int = ROWS) -> pd.DataFrame:
    """Good data; the label depends a little on income."""
    random = np.random.default_rng(seed)
    start = pd.Timestamp("2024-01-01")
    income = random.lognormal(10, 0.5, rows)
    return pd.DataFrame(
        {
            "id": [f"k{i}" for i in range(rows)],
            "at": start + pd.to_timedelta(random.integers(0, 100 * 86400, rows), unit="s"),
            "income": income.round(2),
            "age": random.integers(18, 90, rows),
            "zip": random.choice(["01234", "0999", "07"], rows, p=[0.6, 0.3, 0.1]),
            "owner": random.random(rows) < 0.4,
            "y": (random.random(rows) < 0.4 - 0.2 * (income > 22000)).astype(int),
        }
    )


class Desk:
    """A folder with a source, a store and a spec."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = DeltaSnapshotStore(str(folder / "store"))
        self.reader = DuckDBSourceReader()

    def spec(self, kind: str = "csv", share: float = 0.0, text: str = SPEC) -> ModelSpec:
        path = str(self.folder / f"loans.{kind}")
        return parse_spec(text.replace("PATH", path).replace("SHARE", str(share)))

    def take(self, frame: pd.DataFrame, kind: str = "csv", **options: Any) -> Any:
        spec = self.spec(kind, **options)
        if kind == "csv":
            frame.to_csv(spec.source.path, index=False)
        else:
            frame.to_parquet(spec.source.path, index=False)
        return take_snapshot(spec, self.reader, self.store, NOW)

    def report(self, frame: pd.DataFrame, previous: Any = None, **options: Any) -> QualityReport:
        kind = options.pop("kind", "parquet")
        ref = self.take(frame, kind, **options)
        return validate_data(self.spec(kind, **options), ref, self.store, previous)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def only(report: QualityReport, check: str, column: str | None = None) -> Finding:
    """The one finding of a check, which both reports must show."""
    (found,) = [f for f in report.findings if f.check == check and f.column == (column or f.column)]
    page, text = render_quality_html(report), render_quality_markdown(report)
    assert check in page
    assert check in text
    if found.column:
        assert found.column in page
    return found


def test_good_data_has_no_findings_and_the_same_hash_from_csv_and_parquet(desk: Desk) -> None:
    ref = desk.take(loans(), "csv")
    again = desk.take(loans(), "parquet")
    assert again == ref
    report = validate_data(desk.spec(), ref, desk.store)
    assert report.usable
    assert report.findings == ()
    assert report.usable_rows == ref.rows == ROWS
    assert "Nothing wrong was found" in render_quality_html(report)


def test_matrix_and_frame_hold_the_stored_rows_in_order_of_time(desk: Desk) -> None:
    frame = loans()
    frame.loc[5, "zip"] = None
    frame.loc[6, "income"] = np.nan
    spec, ref = desk.spec(), desk.take(frame)
    matrix = load_matrix(desk.store, ref, spec, keys=True)
    ordered = frame.sort_values(["at", "id"], kind="stable").reset_index(drop=True)
    expected = np.column_stack(
        [
            ordered.income.astype("float32"),
            ordered.age,
            ordered.zip.map({"01234": 0, "0999": 1, "07": 2}),
            ordered.owner,
        ]
    ).astype(np.float32)
    np.testing.assert_array_equal(matrix.features, expected)
    np.testing.assert_array_equal(matrix.labels, ordered.y)
    assert matrix.event_time is not None
    np.testing.assert_array_equal(matrix.event_time, ordered["at"].to_numpy("datetime64[us]"))
    assert matrix.entity_keys is not None
    assert list(matrix.entity_keys) == list(ordered.id)
    part = load_matrix(desk.store, ref, spec, rows=(100, 150))
    np.testing.assert_array_equal(part.features, expected[100:150])
    assert list(part.row_ids) == list(range(100, 150))
    shown = load_frame(desk.store, ref, columns=["zip", "y"], rows=(10, 12))
    assert shown.to_dict("list") == {
        "_row": [10, 11], "zip": list(ordered.zip[10:12]), "y": list(ordered.y[10:12])
    }  # fmt: skip


def test_rows_within_the_allowance_are_dropped_from_training_and_counted(desk: Desk) -> None:
    frame = loans()
    frame.loc[:3, "age"] = 200
    frame.loc[3:5, "zip"] = "99999"
    report = desk.report(frame, share=0.01)
    assert report.usable
    assert report.usable_rows == ROWS - 6
    assert only(report, "out_of_bounds").rows == 4
    assert only(report, "unknown_category").examples[0]["zip"] == "99999"
    ref = desk.store.latest("toy")
    assert ref is not None
    matrix = load_matrix(desk.store, ref, desk.spec("parquet", 0.01))
    assert len(matrix) == report.usable_rows
    assert matrix.features[:, 1].max() < 100


def change(column: str, value: Any, rows: slice = slice(None)) -> Callable[[pd.DataFrame], None]:
    """A fault: set a column to a value on some rows."""

    def apply(frame: pd.DataFrame) -> None:
        frame[column] = frame[column].astype(object)
        frame.loc[frame.index[rows], column] = value

    return apply


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (change("income", "oops", slice(7, 9)),
         "feature income must be a number.*'oops' at line 9, and 1 more"),
        (change("age", "41.5", slice(0, 1)),
         "feature age must be a whole number.*'41.5' at line 2"),
        (change("owner", "perhaps", slice(1, 2)), "feature owner must be true or false.*'perhaps'"),
        (change("at", "31/12/2023", slice(2, 3)), "event time at must be a timestamp.*line 4"),
        (change("at", None, slice(2, 3)), "event time at must be given on every row. 1 of 2,000"),
        (change("y", "bad", slice(2, 3)), "label y must be a whole number.*'bad' at line 4"),
        (change("y", None), "All 2,000 mature rows of 2,000 have none"),
        (change("at", "2024-05-20"), "All 2,000 rows are younger; the oldest is of 2024-05-20"),
        (change("at", "2031-01-01"), "All 2,000 rows are younger"),
    ],
)  # fmt: skip
def test_what_cannot_be_stored_is_refused_and_leaves_no_version(
    desk: Desk, fault: Callable[[pd.DataFrame], None], says: str
) -> None:
    frame = loans()
    fault(frame)
    with pytest.raises(DataFault, match=says):
        desk.take(frame)
    assert desk.store.latest("toy") is None


def test_a_renamed_column_is_missed_with_its_likeliest_new_name(desk: Desk) -> None:
    with pytest.raises(DataFault, match=r"feature income must be a column .*renamed to Income_\?"):
        desk.take(loans().rename(columns={"income": "Income_"}))


def test_immature_and_unlabelled_rows_are_left_out_and_counted(desk: Desk) -> None:
    frame = loans()
    frame.loc[:9, "at"] = pd.Timestamp("2024-05-15")
    frame["y"] = frame.y.astype("Int64")
    frame.loc[5:29, "y"] = pd.NA
    ref = desk.take(frame)
    assert (ref.rows, ref.immature_rows, ref.unlabelled_rows) == (ROWS - 30, 10, 20)
    assert ref.event_to is not None
    assert ref.event_to < datetime(2024, 5, 2, tzinfo=UTC)


def test_the_label_is_mature_exactly_when_its_delay_is_over(desk: Desk) -> None:
    frame = loans(rows=200)
    frame["at"] = pd.Series(pd.Timestamp("2024-05-02"), frame.index).astype("datetime64[us]")
    frame.loc[0, "at"] = pd.Timestamp("2024-05-02 00:00:00.000001")
    assert desk.take(frame).immature_rows == 1


@pytest.mark.parametrize(
    ("check", "column", "fault", "says"),
    [
        ("key_repeated", "id", change("id", "k7", slice(8, 10)), "'k7' on 3 rows"),
        ("key_missing", "id", change("id", None, slice(8, 10)), "2 rows have none"),
        ("single_class", "y", change("y", 0), "No row is '1'"),
        ("single_class", "y", change("y", 1), "Got only '1' on 2,000 rows"),
        ("label_unknown", "y", change("y", 2, slice(0, 5)), "3 different values"),
        ("all_null", "income", change("income", None), "All 2,000 rows are missing"),
        ("null", "age", change("age", None, slice(3, 4)), "have a value .* 1 of 2,000"),
        ("infinite", "income", change("income", np.inf, slice(3, 5)), "2 of 2,000"),
        ("infinite", "income", change("income", 1e300, slice(3, 5)), "fits float32"),
        ("out_of_bounds", "income", change("income", -1.0, slice(3, 5)), r"\[0, inf\).*Got -1.0"),
        ("unknown_category", "zip", change("zip", "x<b>", slice(0, 1)), "'x<b>'"),
    ],
)
def test_what_cannot_be_trained_on_is_fatal_and_named(
    desk: Desk, check: str, column: str, fault: Callable[[pd.DataFrame], None], says: str
) -> None:
    frame = loans()
    fault(frame)
    report = desk.report(frame, kind="csv")
    found = only(report, check, column)
    assert found.level == "fatal"
    assert pd.Series([found.message]).str.contains(says).item(), found.message
    assert not report.usable
    assert "x<b>" not in render_quality_html(report)


def test_a_misspelt_class_is_fatal_where_both_are_named(desk: Desk) -> None:
    frame = loans()
    frame["y"] = np.where(frame.y == 1, "late", "Paid")
    text = SPEC.replace("positive: 1", "positive: late, negative: paid")
    assert text != SPEC
    found = only(desk.report(frame, text=text), "label_unknown", "y")
    assert found.level == "fatal"
    assert found.message.startswith("label y must be 'late' or 'paid'. Got 2 different values")


def test_a_constant_column_is_a_warning(desk: Desk) -> None:
    frame = loans()
    frame["zip"] = "07"
    frame["age"] = 40
    report = desk.report(frame)
    assert report.usable
    assert "'07' on all 2,000" in only(report, "constant", "zip").message
    assert "40 on all 2,000" in only(report, "constant", "age").message


@pytest.mark.parametrize("kind", ["same", "opposite", "missing", "category"])
def test_a_feature_that_gives_the_label_away_is_named(desk: Desk, kind: str) -> None:
    frame = loans()
    late = frame.y == 1
    if kind == "same":
        frame["owner"] = late
    elif kind == "opposite":
        frame["income"] = 5.0 - frame.y
    elif kind == "missing":
        frame.loc[late, "income"] = np.nan
    else:
        frame["zip"] = np.where(late, "07", "0999")
    column = {"same": "owner", "category": "zip"}.get(kind, "income")
    report = desk.report(frame)
    found = only(report, "leakage")
    assert (found.column, found.level) == (column, "fatal")


def test_a_rescaled_column_is_fatal_and_its_factor_named(desk: Desk) -> None:
    before = desk.take(loans(0))
    frame = loans(1)
    frame["income"] *= 1000
    report = desk.report(frame, before)
    found = only(report, "rescaled", "income")
    assert found.level == "fatal"
    assert "about x1,000" in found.message
    assert "previous snapshot v0" in found.message
    assert [f.check for f in report.findings] == ["rescaled"]


def test_moved_columns_and_a_moved_label_rate_are_warnings(desk: Desk) -> None:
    before = desk.take(loans(0))
    frame = loans(1)
    frame["age"] = (frame.age + 10).clip(upper=100)
    frame["zip"] = np.where(np.arange(ROWS) % 2, "07", frame.zip)
    frame.loc[::5, "income"] = np.nan
    frame["y"] = (np.arange(ROWS) % 10 == 0).astype(int)
    report = desk.report(frame, before)
    assert {(f.check, f.column) for f in report.findings} == {
        ("moved", "age"), ("moved", "zip"), ("missing_share", "income"), ("label_rate", "y")
    }  # fmt: skip
    assert report.usable


def test_new_data_of_the_same_kind_raises_no_finding(desk: Desk) -> None:
    before = desk.take(loans(0))
    for seed in range(1, 6):
        assert desk.report(loans(seed), before).findings == ()


def test_losing_most_rows_is_fatal(desk: Desk) -> None:
    before = desk.take(loans(0))
    report = desk.report(loans(1, rows=400), before)
    assert "400 rows after 2,000" in only(report, "rows_lost").message
    few = desk.report(loans(2, rows=50))
    assert "at least 100" in only(few, "too_few_rows").message


def test_a_snapshot_that_is_gone_is_said_and_compared_with_nothing(desk: Desk) -> None:
    before = desk.take(loans(0)).model_copy(update={"version": 77, "content_hash": "other"})
    report = desk.report(loans(1), before)
    assert "cannot be compared with" in only(report, "not_compared").message
    assert report.compared_with == ()

"""The credit example: real loans, generated loans that resemble them, and specs that fit both."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from heliotrope.adapters.loan_file import COLUMN_TRUTH, write_loans
from heliotrope.domain.synthetic import Fault, FaultKind, LoanGenerator, LoanKnobs
from heliotrope.errors import UsageError
from heliotrope.spec import FeatureType, ModelSpec, load_spec

EXAMPLE = Path(__file__).parents[2] / "examples" / "credit_risk"
LEAKS = {"balance", "paid_total", "paid_principal", "paid_interest", "paid_late_fees"}


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    path = tmp_path_factory.mktemp("real") / "deep" / "loans.parquet"
    assert script("real_loans").write_real_loans(path) == 10_000
    assert [p.name for p in path.parent.iterdir()] == ["loans.parquet"]
    return pd.read_parquet(path)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    path = tmp_path_factory.mktemp("generated") / "loans.parquet"
    assert write_loans(LoanGenerator(LoanKnobs(rows=100_000)), path) == 100_000
    assert [p.name for p in path.parent.iterdir()] == ["loans.parquet"]
    return pd.read_parquet(path)


def as_float(column: pd.Series) -> np.ndarray:
    return column.astype("Float64").to_numpy(dtype=float, na_value=np.nan)


def outside(spec: ModelSpec, loans: pd.DataFrame) -> list[str]:
    """What the spec would refuse of the loans."""
    found = []
    for feature in spec.features:
        column = loans[feature.name]
        present = column.dropna()
        if not feature.nullable and len(present) < len(column):
            found.append(f"{feature.name} has nulls")
        if feature.type is FeatureType.CATEGORY:
            found += sorted(set(present) - set(feature.categories or ()))
        elif feature.type.numeric and not present.between(feature.min, feature.max).all():
            found.append(f"{feature.name} out of bounds")
        if feature.type is FeatureType.INTEGER and (as_float(present) % 1 != 0).any():
            found.append(f"{feature.name} not whole")
    return found


@pytest.mark.parametrize("name", ["model", "generated"])
def test_both_specs_fit_both_files(name: str, real: pd.DataFrame, generated: pd.DataFrame) -> None:
    spec = load_spec(EXAMPLE / f"{name}.yaml")
    columns = {*spec.feature_names, spec.entity_key, spec.event_time, spec.label.name}
    assert set(real.columns) == set(generated.columns) == columns
    assert outside(spec, real) == []
    assert outside(spec, generated) == []


def test_the_two_specs_describe_the_same_features() -> None:
    model, other = (load_spec(EXAMPLE / f"{name}.yaml") for name in ("model", "generated"))
    assert model.features == other.features


def test_real_loans_have_no_column_of_the_time_after(real: pd.DataFrame) -> None:
    assert not LEAKS & set(real.columns)
    assert real["defaulted"].sum() == 178
    assert real["loan_id"].is_unique
    assert real["issued_at"].is_monotonic_increasing
    months = real["issued_at"].dt.strftime("%Y-%m").value_counts()
    assert months.to_dict() == {"2018-01": 3395, "2018-02": 2988, "2018-03": 3617}


def test_leaks_are_kept_on_request() -> None:
    loans = script("real_loans").real_loans(with_leaks=True)
    assert {*LEAKS, "loan_status"} <= set(loans.columns)


def test_marginals_of_generated_loans_are_near_the_real_ones(
    real: pd.DataFrame, generated: pd.DataFrame
) -> None:
    for feature in load_spec(EXAMPLE / "model.yaml").features:
        a, b = real[feature.name], generated[feature.name]
        assert a.isna().mean() == pytest.approx(b.isna().mean(), abs=0.01)
        if feature.type.numeric:
            left, right = np.sort(as_float(a.dropna())), np.sort(as_float(b.dropna()))
            points = np.unique(left)
            gap = np.searchsorted(left, points, "right") / len(left) - np.searchsorted(
                right, points, "right"
            ) / len(right)
            assert np.abs(gap).max() < 0.03, feature.name
        else:
            shares = a.value_counts(normalize=True) - b.value_counts(normalize=True)
            assert shares.abs().max() < 0.01, feature.name


def test_rank_correlations_of_generated_loans_are_near_the_real_ones(
    real: pd.DataFrame, generated: pd.DataFrame
) -> None:
    names = [f.name for f in load_spec(EXAMPLE / "model.yaml").features if f.type.numeric]
    # Together present: where one is missing, the pair says nothing of the other.
    left = real[names].astype("Float64").corr("spearman").to_numpy(dtype=float)
    right = generated[names].astype("Float64").corr("spearman").to_numpy(dtype=float)
    assert np.abs(left).max() > 0.5
    assert np.abs(left - right).mean() < 0.03
    assert np.quantile(np.abs(left - right), 0.95) < 0.1


def test_missing_values_go_together_as_in_the_real_loans(
    real: pd.DataFrame, generated: pd.DataFrame
) -> None:
    for loans in (real, generated):
        never_late = loans["months_since_last_delinq"].isna()
        clean = loans["account_never_delinq_percent"]
        assert clean[never_late].mean() > clean[~never_late].mean() + 5


def test_types_are_the_same_in_both_files(real: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "generated.parquet"
    write_loans(LoanGenerator(LoanKnobs(rows=1000)), path)
    real_path = tmp_path / "real.parquet"
    script("real_loans").write_real_loans(real_path)
    expected = pq.read_schema(real_path)
    schema = pq.read_schema(path)
    assert {f.name: f.type for f in schema} == {f.name: f.type for f in expected}


def test_the_truth_is_written_on_request_only(tmp_path: Path) -> None:
    knobs = LoanKnobs(rows=1000)
    write_loans(LoanGenerator(knobs), tmp_path / "without.parquet")
    write_loans(LoanGenerator(knobs), tmp_path / "with.parquet", with_truth=True)
    assert COLUMN_TRUTH not in pq.read_schema(tmp_path / "without.parquet").names
    truth = pd.read_parquet(tmp_path / "with.parquet")[COLUMN_TRUTH]
    assert truth.between(0, 1).all()
    assert truth.nunique() > 900


def test_a_broken_whole_number_is_a_float_in_the_whole_file(tmp_path: Path) -> None:
    late = LoanKnobs().start.replace(month=12)
    knobs = LoanKnobs(rows=70_000, faults=(Fault(FaultKind.INFINITE, "loan_amount", late),))
    write_loans(LoanGenerator(knobs), tmp_path / "loans.parquet")
    amounts = pd.read_parquet(tmp_path / "loans.parquet")["loan_amount"]
    assert np.isinf(amounts).sum() > 1000
    assert np.isfinite(amounts[:60_000]).all()


def test_a_column_that_vanishes_in_the_middle_writes_nothing(tmp_path: Path) -> None:
    late = LoanKnobs().start.replace(month=6)
    knobs = LoanKnobs(rows=1000, faults=(Fault(FaultKind.MISSING, "term", late),))
    with pytest.raises(UsageError, match=r"must leave the columns of one file.*change of term"):
        write_loans(LoanGenerator(knobs), tmp_path / "loans.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"loans\.parquet must be writable"):
        write_loans(LoanGenerator(LoanKnobs(rows=10)), tmp_path / "file" / "loans.parquet")


def test_the_population_in_the_package_is_what_the_fit_gives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    fitting = script("fit_population")
    fresh = fitting.population_of(fitting.fit())
    kept = LoanGenerator(LoanKnobs(rows=1)).population
    assert fresh.sources == kept.sources
    # Linear algebra libraries differ in the last digits.
    assert np.abs(fresh.factor - kept.factor).max() < 0.01
    for name, marginal in kept.marginals.items():
        assert marginal.words == fresh.marginals[name].words
        assert np.array_equal(marginal.values, fresh.marginals[name].values, equal_nan=True)

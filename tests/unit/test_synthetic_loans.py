"""The loan generator keeps what it promises: the same rows, known truth, trouble where asked."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest

from heliotrope.domain.synthetic import (
    Categorical,
    ConceptShift,
    CovariateShift,
    Fault,
    FaultKind,
    LabelNoise,
    LoanBatch,
    LoanGenerator,
    LoanKnobs,
    Ramp,
    clear_cut,
    economy_turns,
    generate_loans,
    renters_turn,
)
from heliotrope.errors import UsageError

ROWS = 40_000
KNOBS = LoanKnobs(rows=ROWS, seed=11)
TURN = datetime(2024, 7, 1)  # noqa: DTZ001 - UTC by definition
FEATURES = [
    n
    for n in generate_loans(LoanKnobs(rows=1)).columns
    if n not in ("loan_id", "issued_at", "defaulted")
]


def numbers(batch: LoanBatch, name: str) -> np.ndarray:
    column = batch.columns[name]
    return column.codes if isinstance(column, Categorical) else np.asarray(column)


def same(left: LoanBatch, right: LoanBatch, name: str) -> bool:
    a, b = left.columns[name], right.columns[name]
    if isinstance(a, Categorical) and isinstance(b, Categorical):
        return np.array_equal(a.strings(), b.strings())
    a, b = np.asarray(a), np.asarray(b)
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def after_turn(batch: LoanBatch) -> np.ndarray:
    return np.asarray(batch.columns["issued_at"]) >= np.datetime64(TURN)


@pytest.fixture(scope="module")
def steady() -> LoanBatch:
    return generate_loans(KNOBS)


@pytest.mark.parametrize("chunk", [1, 37, 16_384, 20_000, 50_000])
def test_rows_are_the_same_whatever_the_chunk_size(chunk: int) -> None:
    rows = 60 if chunk == 1 else 40_000
    knobs = economy_turns(replace(KNOBS, rows=rows, label_noise=LabelNoise(0.1)))
    whole = generate_loans(knobs)
    at = 0
    for batch in LoanGenerator(knobs).batches(chunk_rows=chunk):
        part = whole.take(at, at + len(batch))
        assert batch.first == at
        assert all(same(batch, part, name) for name in whole.columns)
        assert np.array_equal(batch.probability, part.probability)
        at += len(batch)
    assert at == rows


def test_any_range_of_rows_can_be_had_by_itself(steady: LoanBatch) -> None:
    (part,) = LoanGenerator(KNOBS).batches(first=16_000, stop=17_000)
    expected = steady.take(16_000, 17_000)
    assert part.first == 16_000
    assert all(same(part, expected, name) for name in expected.columns)


def test_another_seed_gives_other_loans(steady: LoanBatch) -> None:
    other = generate_loans(replace(KNOBS, seed=12))
    assert not np.array_equal(numbers(other, "annual_income"), numbers(steady, "annual_income"))


@pytest.mark.parametrize("rate", [0.005, 0.02, 0.3])
@pytest.mark.parametrize("signal", [0.0, 1.3, 9.0])
def test_default_rate_is_the_one_asked_for(rate: float, signal: float) -> None:
    loans = generate_loans(replace(KNOBS, default_rate=rate, signal=signal))
    # The features of 40,000 loans move the mean chance, their labels move it again.
    spread = 4 * loans.probability.std() / ROWS**0.5 + 1e-9
    assert loans.probability.mean() == pytest.approx(rate, abs=spread + 0.02 * rate)
    chance = 4 * (rate / ROWS) ** 0.5
    assert numbers(loans, "defaulted").mean() == pytest.approx(loans.probability.mean(), abs=chance)


def test_labels_follow_the_true_probability() -> None:
    loans = generate_loans(replace(KNOBS, default_rate=0.2, signal=2.0))
    defaulted = numbers(loans, "defaulted")
    for low, high in [(0.0, 0.05), (0.05, 0.2), (0.2, 0.5), (0.5, 1.0)]:
        rows = (loans.probability >= low) & (loans.probability < high)
        assert rows.sum() > 1000
        margin = 4 * 0.5 / rows.sum() ** 0.5
        assert defaulted[rows].mean() == pytest.approx(loans.probability[rows].mean(), abs=margin)


def test_without_signal_every_loan_has_the_same_chance() -> None:
    loans = generate_loans(replace(KNOBS, rows=500, signal=0.0))
    assert np.ptp(loans.probability) == 0


def test_loans_are_in_order_and_within_the_period(steady: LoanBatch) -> None:
    times = np.asarray(steady.columns["issued_at"])
    assert np.all(np.diff(times) >= np.timedelta64(0))
    assert times[0] >= np.datetime64(KNOBS.start)
    assert times[-1] < np.datetime64(KNOBS.start + timedelta(days=KNOBS.days))
    assert np.array_equal(steady.columns["loan_id"], np.arange(1, ROWS + 1))


def test_concept_shift_moves_labels_and_not_one_feature(steady: LoanBatch) -> None:
    shift = ConceptShift(strength=1.0, ramp=Ramp(TURN))
    shifted = generate_loans(replace(KNOBS, concept_shifts=(shift,)))
    late = after_turn(steady)
    assert all(same(shifted, steady, name) for name in FEATURES)
    assert np.array_equal(shifted.probability[~late], steady.probability[~late])
    assert np.mean(shifted.probability[late] != steady.probability[late]) > 0.99


def test_covariate_shift_moves_features_and_keeps_what_makes_loans_default(
    steady: LoanBatch,
) -> None:
    knobs = replace(KNOBS, covariate_shifts=(CovariateShift(1.0, Ramp(TURN)),))
    shifted = generate_loans(knobs)
    late = after_turn(steady)
    income, before = numbers(shifted, "annual_income"), numbers(steady, "annual_income")
    assert np.array_equal(income[~late], before[~late])
    assert np.median(income[late]) < 0.8 * np.median(before[late])
    # The truth as a function of the features is the same one: the steady generator's answers it.
    truth = LoanGenerator(KNOBS).truth
    columns = {name: shifted.columns[name] for name in FEATURES}
    zeros = np.zeros(ROWS)
    assert np.array_equal(truth.probability(columns, zeros, zeros), shifted.probability)


def test_a_segment_shifts_alone(steady: LoanBatch) -> None:
    shifted = generate_loans(renters_turn(KNOBS, after=0.5))
    half = KNOBS.start + timedelta(days=KNOBS.days / 2)
    late = np.asarray(steady.columns["issued_at"]) >= np.datetime64(half)
    home = steady.columns["homeownership"]
    assert isinstance(home, Categorical)
    rents = home.strings() == "RENT"
    changed = shifted.probability != steady.probability
    assert not changed[~(late & rents)].any()
    assert changed[late & rents].mean() > 0.99


def test_a_gradual_shift_grows_with_time(steady: LoanBatch) -> None:
    ramp = Ramp(TURN, over=timedelta(days=100))
    shift = ConceptShift(strength=0.0, log_odds=2.0, ramp=ramp)
    shifted = generate_loans(replace(KNOBS, concept_shifts=(shift,)))
    odds = np.log(shifted.probability / (1 - shifted.probability)) - np.log(
        steady.probability / (1 - steady.probability)
    )
    days = (np.asarray(steady.columns["issued_at"]) - np.datetime64(TURN)) / np.timedelta64(1, "D")
    assert odds == pytest.approx(2.0 * np.clip(days / 100, 0, 1), abs=1e-6)


def test_label_noise_flips_its_share_from_its_time_and_leaves_the_truth(steady: LoanBatch) -> None:
    noisy = generate_loans(replace(KNOBS, label_noise=LabelNoise(0.1, TURN)))
    flipped = numbers(noisy, "defaulted") != numbers(steady, "defaulted")
    late = after_turn(steady)
    assert not flipped[~late].any()
    assert flipped[late].mean() == pytest.approx(0.1, abs=0.01)
    assert np.array_equal(noisy.probability, steady.probability)


def accuracy(scores: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean((scores > 0.5) == truth))


def test_the_economy_turns_and_who_knew_the_old_one_is_wrong_about_every_fourth() -> None:
    base = clear_cut(KNOBS)
    turned = generate_loans(economy_turns(base, after=0.5))
    generator = LoanGenerator(base)
    zeros = np.zeros(ROWS)
    columns = {name: turned.columns[name] for name in FEATURES}
    old = generator.truth.probability(columns, zeros, zeros)
    defaulted = numbers(turned, "defaulted")
    half = ROWS // 2
    assert accuracy(old[: half - 1], defaulted[: half - 1]) > 0.93
    assert 0.6 < accuracy(old[half + 1 :], defaulted[half + 1 :]) < 0.8
    assert accuracy(turned.probability[half + 1 :], defaulted[half + 1 :]) > 0.9


def fault_rows(fault: Fault) -> tuple[LoanBatch, np.ndarray]:
    batch = generate_loans(replace(KNOBS, faults=(fault,)))
    return batch, after_turn(batch)


FAULTS = {
    "scale": (Fault(FaultKind.SCALE, "annual_income", TURN), lambda a, b: a == 1000 * b),
    "null": (Fault(FaultKind.NULL, "annual_income", TURN), lambda a, _: np.isnan(a)),
    "stuck": (Fault(FaultKind.STUCK, "annual_income", TURN), lambda a, _: a == 65_000),
    "infinite": (Fault(FaultKind.INFINITE, "loan_amount", TURN), lambda a, _: np.isinf(a)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_starts_exactly_at_its_time(name: str, steady: LoanBatch) -> None:
    fault, broken = FAULTS[name]
    batch, late = fault_rows(fault)
    before, now = numbers(steady, fault.column), numbers(batch, fault.column)
    present = before > 0
    assert np.array_equal(now[~late], before[~late])
    assert broken(now, before)[late & present].all()
    assert 0 < late.sum() < ROWS
    others = [n for n in steady.columns if n != fault.column]
    assert all(same(batch, steady, other) for other in others)
    assert np.array_equal(batch.probability, steady.probability)


def test_a_fault_ends_and_hits_its_share(steady: LoanBatch) -> None:
    until = TURN + timedelta(days=60)
    fault = Fault(FaultKind.NULL, "annual_income", TURN, until, share=0.25)
    batch, late = fault_rows(fault)
    inside = late & (np.asarray(batch.columns["issued_at"]) < np.datetime64(until))
    missing = np.isnan(numbers(batch, "annual_income"))
    assert missing[inside].mean() == pytest.approx(0.25, abs=0.03)
    assert not missing[~inside].any()


def test_a_new_category_appears(steady: LoanBatch) -> None:
    batch, late = fault_rows(Fault(FaultKind.NEW_CATEGORY, "loan_purpose", TURN, other="crypto"))
    column = batch.columns["loan_purpose"]
    assert isinstance(column, Categorical)
    assert np.array_equal(column.strings() == "crypto", late)


def test_columns_are_swapped(steady: LoanBatch) -> None:
    batch, late = fault_rows(
        Fault(FaultKind.SWAPPED, "total_debit_limit", TURN, other="total_credit_limit")
    )
    for one, other in [("total_debit_limit", "total_credit_limit")] * 2:
        assert np.array_equal(numbers(batch, one)[late], numbers(steady, other)[late])
        assert np.array_equal(numbers(batch, other)[late], numbers(steady, one)[late])
        assert np.array_equal(numbers(batch, one)[~late], numbers(steady, one)[~late])


def test_keys_are_repeated(steady: LoanBatch) -> None:
    batch, late = fault_rows(Fault(FaultKind.DUPLICATE_KEYS, start=TURN, share=0.05))
    ids = numbers(batch, "loan_id")
    repeated = ROWS - len(np.unique(ids))
    assert 0.03 * late.sum() < repeated < 0.06 * late.sum()
    assert np.array_equal(ids[~late], numbers(steady, "loan_id")[~late])


@pytest.mark.parametrize(
    ("fault", "gone", "new"),
    [
        (Fault(FaultKind.MISSING, "term", TURN), {"term"}, set()),
        (Fault(FaultKind.RENAMED, "term", TURN, other="term_months"), {"term"}, {"term_months"}),
    ],
)
def test_a_structural_fault_cuts_the_batch_at_its_time(
    fault: Fault, gone: set[str], new: set[str], steady: LoanBatch
) -> None:
    first, second = LoanGenerator(replace(KNOBS, faults=(fault,))).batches(chunk_rows=ROWS)
    assert set(first.columns) - set(second.columns) == gone
    assert set(second.columns) - set(first.columns) == new
    assert not after_turn(first).any()
    assert after_turn(second).all()
    assert len(first) + len(second) == ROWS
    for name in new:
        assert np.array_equal(numbers(second, name), numbers(steady, "term")[len(first) :])


REFUSED = {
    "rows": (lambda: LoanKnobs(rows=0), "rows must be 1 or more. Got 0."),
    "rate": (lambda: LoanKnobs(default_rate=1.0), "default_rate must be between"),
    "zone": (lambda: LoanKnobs(start=TURN.astimezone()), "start must be in UTC, without"),
    "share": (lambda: Fault(FaultKind.NULL, "term", share=0), "share must be above 0"),
    "order": (lambda: Fault(FaultKind.NULL, "term", TURN, TURN), "until must be after start"),
    "name": (lambda: Fault(FaultKind.RENAMED, "term"), "other must be given for a renamed"),
    "mix": (lambda: ConceptShift(strength=1.5), "strength must be between 0 and 1. Got 1.5"),
    "noise": (lambda: LabelNoise(-0.1), "share must be between 0 and 1. Got -0.1"),
    "column": (
        lambda: LoanGenerator(LoanKnobs(faults=(Fault(FaultKind.NULL, "salary"),))),
        "column must be one of loan_amount, .* Got salary",
    ),
    "kind": (
        lambda: LoanGenerator(LoanKnobs(faults=(Fault(FaultKind.SCALE, "grade"),))),
        "column must be a number for a scale fault. Got grade, category",
    ),
    "swap": (
        lambda: LoanGenerator(LoanKnobs(faults=(Fault(FaultKind.SWAPPED, "grade", other="term"),))),
        "other must be as grade is, category. Got term, discrete",
    ),
    "segment": (
        lambda: LoanGenerator(
            LoanKnobs(concept_shifts=(ConceptShift(segment=("homeownership", "TENT")),))
        ),
        "segment must be one of RENT, OWN, MORTGAGE. Got TENT",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_nonsense_is_refused_with_what_it_must_be(case: str) -> None:
    make, message = REFUSED[case]
    with pytest.raises(UsageError, match=message):
        make()

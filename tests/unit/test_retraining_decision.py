"""The door to retraining: which rule decides, and what no history can bring about."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliotrope.domain.remedy.documents import Remedy
from heliotrope.domain.retraining import Word, decide_retraining
from heliotrope.domain.retraining_history import Level, PastRun, RetrainingHistory
from heliotrope.domain.triggers import Cause, CauseKind
from heliotrope.spec.policies import Retraining
from heliotrope.vocabulary import Outcome

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
POLICY = Retraining(
    cooldown=timedelta(hours=6), daily_budget=3, minimum_new_labels=500, max_failures=3
)
FINE = Level("accuracy", True, 0.94, 0.05, 0.93, 0.92, 0.95, 5_000, NOW)
BAD = Level("accuracy", True, 0.94, 0.05, 0.71, 0.69, 0.74, 1_240, NOW)


def cause(kind: CauseKind = CauseKind.ACCURACY, key: str = "a", **more: object) -> Cause:
    fields = {"text": "accuracy .71 < .94", "asked_at": NOW, "champion": "1"} | more
    return Cause(kind=kind, key=key, model="credit", **fields)


def run(hours_ago: float = 24, kind: CauseKind = CauseKind.DRIFT, **more: object) -> PastRun:
    fields = {"outcome": Outcome.REGISTERED, "version": "1"} | more
    at = NOW - timedelta(hours=hours_ago)
    return PastRun(f"credit-{kind}-{hours_ago}", kind, at, **fields)


def failed(hours_ago: float, **more: object) -> PastRun:
    return run(hours_ago, **({"outcome": Outcome.NOT_ACCEPTED} | more))


def history(**more: object) -> RetrainingHistory:
    return RetrainingHistory(**({"champion": "1", "new_labels": 5_000, "level": BAD} | more))


PERSON = {"kind": CauseKind.PERSON, "person": "ada", "text": "new features"}
DRIFT = {"kind": CauseKind.DRIFT}


@pytest.mark.parametrize(
    ("asked", "known", "word", "rule", "says"),
    [
        (cause(), history(), "start", "worth it", "0.710 [0.690, 0.740] over 1,240 labels"),
        (cause(remedy=Remedy.FIX_DATA), history(), "refuse", "remedy", "mend the data"),
        (cause(remedy=Remedy.CHECK_LABELS), history(), "refuse", "remedy", "mend the labels"),
        (cause(remedy=Remedy.WAIT), history(), "refuse", "remedy", "no harm"),
        (cause(champion="0"), history(), "refuse", "answered", "version 1 is champion now"),
        (cause(asked_at=NOW - 3 * HOUR), history(runs=[run(2)]), "refuse", "answered", "version 1"),
        (cause(), history(runs=[run(1, outcome=None)]), "wait", "single flight", "11:00 UTC"),
        (cause(**PERSON), history(runs=[run(1, outcome=None)]), "wait", "single flight", "-1 is"),
        (cause(), history(rollout="rollout 3"), "wait", "rollout", "rollout 3 is under way"),
        (cause(**PERSON), history(rollout="rollout 3"), "start", "worth it", "new features"),
        (cause(), history(runs=[run(5)]), "wait", "cooldown", "from 2026-03-02 13:00 UTC on"),
        (cause(), history(runs=[run(6)]), "start", "worth it", ""),
        (cause(), history(runs=[run(5, CauseKind.PERSON)]), "start", "worth it", ""),
        (cause(**PERSON), history(runs=[run(5)]), "start", "worth it", ""),
        (cause(), history(new_labels=380), "wait", "minimum_new_labels", "120 more"),
        (cause(**PERSON), history(new_labels=0), "start", "worth it", ""),
        (
            cause(since=NOW - 48 * HOUR),
            history(changed_labels=300),
            "wait",
            "minimum_new_labels",
            "300 mature labels came since the change at 2026-02-28 12:00 UTC, 500 make",
        ),
        (
            cause(since=NOW - 48 * HOUR),
            history(changed_labels=700),
            "start",
            "worth it",
            "5,000 new mature labels, 700 of them since the change",
        ),
        (
            cause(CauseKind.SCHEDULE),
            history(new_labels=380),
            "wait",
            "minimum_new_labels",
            "500 make it worth it",
        ),
        (cause(harm=True), history(level=FINE), "wait", "worth it", "nothing to win yet"),
        (cause(harm=True), history(level=None), "start", "worth it", ""),
        (cause(remedy=Remedy.RETRAIN), history(level=FINE), "start", "worth it", ""),
        (cause(CauseKind.SCHEDULE), history(level=FINE), "start", "worth it", ""),
        (cause(**DRIFT), history(level=FINE), "wait", "worth it", "nothing to win yet"),
        (cause(**DRIFT), history(level=None), "wait", "worth it", "no mature labels show harm"),
        (cause(**DRIFT, harm=True), history(level=FINE), "start", "worth it", ""),
        (cause(**DRIFT, remedy=Remedy.RETRAIN), history(level=None), "start", "worth it", ""),
        (cause(CauseKind.PERSISTENCE), history(level=FINE), "refuse", "worth it", "no longer"),
        (cause(CauseKind.ALERT, harm=True), history(), "wait", "diagnosis", "nobody has"),
        (
            cause(CauseKind.ALERT, harm=True),
            history(diagnosed=Remedy.FIX_DATA),
            "wait",
            "diagnosis",
            "says fix_data",
        ),
        (
            cause(CauseKind.ALERT, harm=True),
            history(diagnosed=Remedy.RETRAIN),
            "start",
            "worth it",
            "",
        ),
        (
            cause(CauseKind.PERSISTENCE),
            history(diagnosed=Remedy.CHECK_LABELS),
            "wait",
            "diagnosis",
            "says check_labels",
        ),
        (cause(CauseKind.PERSISTENCE), history(), "start", "worth it", ""),
        (
            cause(**PERSON),
            history(runs=[run(1), run(2), run(3)]),
            "wait",
            "daily_budget",
            "3 of 3 runs of 2026-03-02",
        ),
        (cause(), history(runs=[failed(30), failed(40)]), "start", "worth it", ""),
        (
            cause(),
            history(runs=[failed(30), failed(40), failed(50)]),
            "refuse",
            "max_failures",
            "3 candidates in a row",
        ),
        (
            cause(**PERSON),
            history(runs=[failed(30), failed(40), failed(50)]),
            "refuse",
            "max_failures",
            "--force",
        ),
        (
            cause(**PERSON, forced=True),
            history(runs=[failed(30), failed(40), failed(50)]),
            "start",
            "worth it",
            "",
        ),
        (
            cause(),
            history(runs=[failed(30, forced=True), failed(40), failed(50)]),
            "start",
            "worth it",
            "",
        ),
        (
            cause(),
            history(runs=[run(30, rolled_back=True), failed(40), failed(50)]),
            "refuse",
            "max_failures",
            "",
        ),
        (cause(), history(runs=[failed(30), run(40), failed(50)]), "start", "worth it", ""),
    ],
)
def test_the_first_rule_with_an_answer_decides(
    asked: Cause, known: RetrainingHistory, word: str, rule: str, says: str
) -> None:
    decision = decide_retraining(POLICY, known, asked, NOW)
    assert (decision.word, decision.rule) == (word, rule), decision.reason
    assert says in decision.reason


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (CauseKind.DRIFT, "refuse"),
        (CauseKind.ACCURACY, "refuse"),
        (CauseKind.ALERT, "refuse"),
        (CauseKind.PERSISTENCE, "refuse"),
        (CauseKind.SCHEDULE, "start"),
        (CauseKind.PERSON, "start"),
    ],
)
def test_evidence_starts_nothing_where_the_spec_says_so(kind: CauseKind, word: str) -> None:
    policy = POLICY.model_copy(update={"on_evidence": False})
    assert decide_retraining(policy, history(), cause(kind), NOW).word == word


def test_a_cause_names_its_run_whatever_else_is_said_of_it() -> None:
    same = cause(text="told again", asked_at=NOW + HOUR, harm=True)
    assert same.run_key == cause().run_key
    others = (cause(key="b"), cause(CauseKind.DRIFT), cause().model_copy(update={"model": "loans"}))
    assert len({cause().run_key, *(other.run_key for other in others)}) == 4


def test_a_target_is_missed_only_beyond_what_matters_and_beyond_chance() -> None:
    def level(value: float, half: float, *, greater: bool = True) -> Level:
        ends = (value - half, value + half)
        return Level("m", greater, 0.5, 0.05, value, *ends, 100, NOW)

    assert level(0.44, 0.01).missed
    assert not level(0.46, 0.01).missed
    assert not level(0.40, 0.11).missed
    assert level(0.56, 0.01, greater=False).missed
    assert not level(0.44, 0.01, greater=False).missed


KINDS = st.sampled_from(list(CauseKind))
ENDS = st.sampled_from([*Outcome, None])
EVENTS = st.lists(
    st.tuples(
        KINDS,
        st.booleans(),
        # Mostly forward, sometimes set back by up to three days, sometimes a day ahead.
        st.one_of(st.integers(0, 240), st.integers(-4_320, 0), st.integers(1_000, 2_000)),
        ENDS,
        st.booleans(),
    ),
    max_size=120,
)


@given(EVENTS, st.integers(1, 4), st.integers(1, 3), st.integers(0, 600))
@settings(max_examples=150, deadline=None)
def test_no_history_brings_two_runs_at_once_or_more_than_the_budget(
    events: list[tuple[CauseKind, bool, int, Outcome | None, bool]],
    budget: int,
    failures: int,
    cooldown: int,
) -> None:
    policy = Retraining(
        daily_budget=budget, max_failures=failures, cooldown=timedelta(minutes=cooldown)
    )
    runs: list[PastRun] = []
    now = NOW
    for number, (kind, forced, minutes, end, back) in enumerate(events):
        now += timedelta(minutes=minutes)
        person = kind is CauseKind.PERSON
        asked = cause(kind, str(number), asked_at=now, forced=forced and person, champion=None)
        known = history(runs=tuple(runs))
        answer = decide_retraining(policy, known, asked, now)
        assert decide_retraining(policy, known, asked, now) == answer
        if answer.word is Word.START:
            assert known.under_way is None
            assert known.failures < failures or asked.forced
            for run_before in runs if kind.evidence else []:
                # A clock that was set back waits; it never shortens.
                if run_before.kind.evidence:
                    assert now - run_before.requested_at >= policy.cooldown
            runs.append(PastRun(asked.run_key, kind, now, forced=asked.forced))
        elif answer.until is not None:
            assert answer.until > now
        if end is not None and runs and runs[-1].outcome is None:
            ended = {"outcome": end, "rolled_back": back and end is Outcome.REGISTERED}
            runs[-1] = PastRun(
                runs[-1].run_key, runs[-1].kind, runs[-1].requested_at, runs[-1].forced, **ended
            )
    days = [one.requested_at.date() for one in runs]
    assert all(days.count(day) <= budget for day in set(days))
    assert len({one.run_key for one in runs}) == len(runs)

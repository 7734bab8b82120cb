"""The rollout's state machine: a table of what follows from what, and properties over paths."""

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliotrope.domain.rollout.checks import CRASH_LOOP
from heliotrope.domain.rollout.documents import Decision, PointAlias, Rollout
from heliotrope.domain.rollout.evidence import Comparison, Evidence, Health, Replay
from heliotrope.domain.rollout.machine import decide
from heliotrope.domain.rollout.orders import Order, obey
from heliotrope.domain.rollout.plan import wanted_champion, wanted_plan
from heliotrope.domain.rollout.policy import RolloutPolicy
from heliotrope.domain.rollout.states import TERMINAL, RolloutState
from heliotrope.domain.serving_plan import ObservedRevision, ObservedServing
from heliotrope.errors import UsageError
from heliotrope.spec.policies import Gates
from heliotrope.spec.policies import Rollout as RolloutSpec
from heliotrope.vocabulary import Role, Verdict

T0 = datetime(2026, 3, 1, tzinfo=UTC)
S = RolloutState
MINUTE = timedelta(minutes=1)
ACTIVE = [S.PENDING, S.SHADOW, S.CANARY, S.FULL, S.BAKING]
SHARE = {S.PENDING: 0, S.SHADOW: 0, S.CANARY: 25, S.FULL: 100, S.BAKING: 100}


def policy(shadow: bool = True, **more: object) -> RolloutPolicy:
    rollout = {"shadow": {"enabled": shadow}, **more}
    return RolloutPolicy(RolloutSpec.model_validate(rollout), Gates())


def rollout(state: RolloutState = S.PENDING, **more: object) -> Rollout:
    base = Rollout(
        model="loans",
        number=3,
        candidate="7",
        champion="6",
        cause="test",
        state=state,
        share=SHARE.get(state, 0),
        turn=4,
        opened_at=T0,
        entered_at=T0,
        seen_at=T0,
        reason="before",
        settled=state is not S.PENDING,
        replayed=500,
    )
    return base.model_copy(update=more)


def serving(of: Rollout, ready: bool = True, restarts: int = 0) -> ObservedServing:
    plan = wanted_plan(of)
    revisions = tuple(
        ObservedRevision(
            version=r.version,
            role=r.role,
            ready=ready or r.version != of.candidate,
            address="http://x",
            restarts=restarts if r.version == of.candidate else 0,
        )
        for r in plan.revisions
    )
    return ObservedServing(
        model=of.model, revisions=revisions, weights=plan.weights, settled=ready, gateway=None
    )


def health(version: str, requests: int = 500, errors: int = 0, p99: float = 0.02) -> Health:
    return Health(
        version=version, requests=requests, errors=errors, p50_seconds=p99 / 2, p99_seconds=p99
    )


def compared(labelled: int = 400, better: float = 9.0, worse: float = 0.0) -> Comparison:
    return Comparison(
        paired=True,
        loss="0/1 error",
        bound=0.0,
        pairs=labelled,
        labelled=labelled,
        gain=0.02,
        low=0.01,
        high=0.03,
        log_e_better=better,
        log_e_worse=worse,
        growth=0.01,
        champion_loss=0.1,
        candidate_loss=0.08,
        agreement=0.95,
        label_rate=60.0,
    )


def evidence(of: Rollout, **more: object) -> Evidence:
    """All is well, unless said otherwise."""
    given = {
        "serving": serving(of),
        "candidate": health("7"),
        "champion": health("6"),
        "replay": Replay(sent=500),
        "comparison": compared(),
        "newest": "7",
        **more,
    }
    return Evidence(turn=of.turn, **given)


def after(
    of: Rollout, at: datetime, demands: RolloutPolicy | None = None, **more: object
) -> Decision:
    return decide(demands or policy(), of, evidence(of, **more), at)


def test_good_evidence_takes_a_candidate_all_the_way_and_then_moves_the_alias() -> None:
    here, at, seen, crowned = rollout(), T0, [], []
    for _ in range(40):
        at += timedelta(hours=1)
        made = after(here, at)
        if made.rollout.turn != here.turn:
            seen.append((made.rollout.state, made.rollout.share))
        crowned += [action for action in made.actions if isinstance(action, PointAlias)]
        here = made.rollout
    assert seen == [
        (S.SHADOW, 0),
        (S.CANARY, 10),
        (S.CANARY, 25),
        (S.CANARY, 50),
        (S.FULL, 100),
        (S.BAKING, 100),
        (S.PROMOTED, 100),
    ]
    assert crowned == [PointAlias(version="7")]
    assert wanted_plan(here).weights == {"7": 100}


def test_without_a_shadow_the_first_step_is_a_canary() -> None:
    made = after(rollout(), T0 + MINUTE, policy(shadow=False))
    assert (made.rollout.state, made.rollout.share) == (S.CANARY, 10)


def test_the_first_champion_goes_straight_once_it_is_ready() -> None:
    first = rollout(champion=None)
    held = decide(policy(), first, evidence(first, serving=serving(first, ready=False)), T0)
    assert held.rollout.state is S.PENDING
    made = after(first, T0 + MINUTE)
    assert made.rollout.state is S.PROMOTED
    assert wanted_champion(made.rollout) == "7"


BREACHES = {
    "answers 500": ({"candidate": health("7", 20, 20)}, (S.CANARY, S.FULL, S.BAKING)),
    "is slow": ({"candidate": health("7", 2000, 0, 0.5)}, (S.SHADOW, S.CANARY, S.FULL, S.BAKING)),
    "is worse": ({"comparison": compared(worse=9)}, (S.SHADOW, S.CANARY, S.FULL, S.BAKING)),
    "is refused": ({"replay": Replay(sent=10, refused=10)}, (S.SHADOW,)),
    "answers NaN": ({"replay": Replay(sent=10, unusable=10)}, (S.SHADOW,)),
    "crashed": ("restarts", (S.CANARY, S.FULL, S.BAKING)),
    "crash loop": ("loop", (S.PENDING, S.SHADOW)),
    "hangs": ("unready", (S.CANARY, S.FULL, S.BAKING)),
    "is gone": ("gone", (S.CANARY, S.FULL, S.BAKING)),
}


@pytest.mark.parametrize(
    ("what", "state"), [(what, state) for what, (_, states) in BREACHES.items() for state in states]
)
def test_a_breach_takes_the_candidate_back_in_one_tick(what: str, state: RolloutState) -> None:
    bad, here = BREACHES[what][0], rollout(state)
    if isinstance(bad, str):
        observed = serving(here, ready=bad != "unready", restarts={"restarts": 1}.get(bad, 0))
        if bad == "loop":
            observed = serving(here, ready=False, restarts=CRASH_LOOP)
        if bad == "gone":
            kept = tuple(r for r in observed.revisions if r.version != "7")
            observed = observed.model_copy(update={"revisions": kept})
        bad = {"serving": observed}
    made = after(here, T0 + MINUTE, **bad)
    assert (made.rollout.state, made.verdict) == (S.ROLLED_BACK, Verdict.FAIL)
    assert wanted_plan(made.rollout).weights == {"6": 100}
    assert wanted_champion(made.rollout) == "6"
    moved = [action for action in made.actions if isinstance(action, PointAlias)]
    assert moved == ([PointAlias(version="6")] if state is S.BAKING else [])


@pytest.mark.parametrize(
    ("what", "state"),
    [
        *((what, s) for what in ("serving", "traffic", "outcomes") for s in (S.CANARY, S.FULL)),
        *((what, S.SHADOW) for what in ("serving", "traffic", "replay", "outcomes")),
    ],
)
def test_what_cannot_be_read_holds_until_the_step_is_given_up(
    what: str, state: RolloutState
) -> None:
    here = rollout(state, share={S.CANARY: 50}.get(state, SHARE[state]))
    demands = policy()
    made = after(here, T0 + timedelta(hours=1), broken={what: "it does not answer"})
    assert (made.rollout.state, made.verdict) == (state, Verdict.ERROR)
    late = rollout(state, seen_at=T0 + timedelta(days=7), share=here.share)
    over = after(late, T0 + timedelta(days=7, minutes=1), demands, broken={what: "no"})
    assert over.rollout.state is S.ROLLED_BACK
    assert "no verdict within" in over.rollout.reason


@pytest.mark.parametrize("missing", ["candidate", "comparison", "replay"])
def test_no_data_is_never_a_pass(missing: str) -> None:
    here = rollout(S.CANARY if missing == "candidate" else S.SHADOW)
    made = after(here, T0 + timedelta(hours=1), **{missing: None})
    assert (made.rollout.state, made.verdict) == (here.state, Verdict.HOLD)


def test_replayed_requests_are_no_users_requests() -> None:
    here = rollout(S.CANARY, replayed=400)
    made = after(here, T0 + timedelta(hours=1), replay=Replay(sent=880))
    assert (made.rollout.state, made.verdict) == (S.CANARY, Verdict.HOLD)
    assert any("20 users' requests of 30 needed" in check.text for check in made.checks)


def test_it_says_how_many_labels_are_missing_and_until_when() -> None:
    here = rollout(S.SHADOW)
    waits = after(here, T0 + MINUTE, comparison=compared(400, better=1.0)).waits
    assert waits is not None
    assert waits.labels == math.ceil((math.log(20) - 1.0) / 0.01)
    assert waits.until == T0 + MINUTE + timedelta(hours=waits.labels / 60)


def test_a_newer_candidate_supersedes_and_is_named() -> None:
    made = after(rollout(S.CANARY), T0 + MINUTE, newest="10")
    assert made.rollout.state is S.ABORTED
    assert "version 10" in made.rollout.reason
    assert after(rollout(S.CANARY), T0 + MINUTE, newest="5").rollout.state is S.CANARY


def test_a_newer_candidate_waits_while_the_one_before_bakes_or_a_person_paused_it() -> None:
    assert after(rollout(S.BAKING), T0 + MINUTE, newest="10").rollout.state is S.BAKING
    paused = rollout(S.PAUSED, paused_from=S.CANARY, share=25)
    assert after(paused, T0 + MINUTE, newest="10").rollout.state is S.PAUSED


def test_paused_keeps_the_shares_but_not_a_breach() -> None:
    paused = obey(Order.PAUSE, rollout(S.CANARY), None, "kim", "lunch", T0)
    assert wanted_plan(paused).weights == {"6": 75, "7": 25}
    for days in (1, 30, 300):
        assert after(paused, T0 + timedelta(days=days)).rollout.state is S.PAUSED
    made = after(paused, T0 + MINUTE, candidate=health("7", 20, 20))
    assert made.rollout.state is S.ROLLED_BACK
    resumed = obey(Order.RESUME, paused, None, "kim", "", T0 + timedelta(days=9))
    assert (resumed.state, resumed.share) == (S.CANARY, 25)
    assert resumed.entered_at == T0 + timedelta(days=9)


def test_promotion_by_a_person_is_recorded_as_forced_and_needs_a_ready_version() -> None:
    here = rollout(S.SHADOW)
    forced = obey(Order.PROMOTE, here, serving(here), "kim", "I know", T0)
    assert (forced.state, forced.forced_by) == (S.BAKING, "kim")
    assert "promoted by force by kim: I know" in forced.reason
    with pytest.raises(UsageError, match=r"must be of a version that is ready.* not ready"):
        obey(Order.PROMOTE, here, serving(here, ready=False), "kim", "", T0)


@pytest.mark.parametrize("state", sorted(TERMINAL))
@pytest.mark.parametrize("order", list(Order))
def test_no_order_moves_what_is_over(state: RolloutState, order: Order) -> None:
    with pytest.raises(UsageError, match="under way"):
        obey(order, rollout(state), None, "kim", "", T0)


@pytest.mark.parametrize("jump", [timedelta(days=400), timedelta(days=-400)])
@pytest.mark.parametrize("state", ACTIVE)
def test_a_jump_of_the_clock_ends_no_step_by_itself(state: RolloutState, jump: timedelta) -> None:
    here = rollout(state)
    held = {"comparison": compared(10, better=0)} | (
        {"serving": serving(here, ready=False)} if state is S.PENDING else {}
    )
    made = after(here, T0 + jump, **held)
    expected = S.CANARY if state is S.CANARY and jump > timedelta(0) else state
    assert made.rollout.state is expected
    again = after(made.rollout, T0 + jump + MINUTE, **held) if made.rollout.turn == 4 else made
    assert again.rollout.state is expected


# Properties

verdicts = st.sampled_from(["good", "none", "bad", "broken"])
minutes = st.integers(-5000, 20000)


@st.composite
def evidences(draw: st.DrawFn, of: Rollout) -> Evidence:
    broken = {}
    seen: dict[str, object] = {"newest": draw(st.sampled_from(["7", "7", "7", "9", None]))}
    kinds = {
        "serving": (serving(of), None, serving(of, ready=False)),
        "traffic": (health("7"), None, health("7", 50, 50)),
        "replay": (Replay(sent=90), None, Replay(sent=9, errors=9)),
        "outcomes": (compared(), None, compared(worse=5)),
    }
    names = {"traffic": "candidate", "outcomes": "comparison"}
    for name, (good, nothing, bad) in kinds.items():
        what = draw(verdicts)
        if what == "broken":
            broken[name] = "no answer"
        else:
            seen[names.get(name, name)] = {"good": good, "none": nothing, "bad": bad}[what]
    turn = of.turn - draw(st.sampled_from([0, 0, 0, 1]))
    return Evidence(turn=turn, champion=health("6"), broken=broken, **seen)


@st.composite
def situations(draw: st.DrawFn) -> tuple[RolloutPolicy, Rollout, Evidence, datetime]:
    state = draw(st.sampled_from(list(RolloutState)))
    paused_from = draw(st.sampled_from(ACTIVE)) if state is S.PAUSED else None
    here = rollout(
        state,
        share=SHARE.get(paused_from or state, 0),
        paused_from=paused_from,
        settled=draw(st.booleans()),
        champion=draw(st.sampled_from(["6", "6", "6", None])) if state is S.PENDING else "6",
    )
    demands = policy(draw(st.booleans()), steps=draw(st.sampled_from([(10, 100), (100,)])))
    return demands, here, draw(evidences(here)), T0 + draw(minutes) * MINUTE


@settings(max_examples=300, deadline=None)
@given(situations())
def test_decisions_are_total_safe_and_idempotent(
    found: tuple[RolloutPolicy, Rollout, Evidence, datetime],
) -> None:
    demands, here, seen, now = found
    made = decide(demands, here, seen, now)
    assert Rollout.from_json(made.rollout.to_json()) == made.rollout
    # The same evidence again changes nothing more.
    again = decide(demands, made.rollout, seen, now)
    assert again.rollout == made.rollout
    assert again.actions == ()
    before, then = wanted_plan(here).weights, wanted_plan(made.rollout).weights
    raised = then.get("7", 0) > before.get("7", 0)
    if here.state in TERMINAL:
        assert made.rollout == here
    if made.verdict in (Verdict.FAIL, Verdict.ERROR):
        assert not raised
    if raised:
        assert seen.serving is not None
        candidate = seen.serving.revision("7")
        assert candidate is not None
        assert candidate.ready
        assert seen.turn == here.turn
    roles = {r.version: r.role for r in wanted_plan(made.rollout).revisions}
    assert all(roles[v] is not Role.SHADOW for v, weight in then.items() if weight)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_path_that_nobody_paused_ends(data: st.DataObject) -> None:
    here, at = rollout(), T0
    demands = policy(data.draw(st.booleans()))
    for _ in range(400):
        at += timedelta(hours=data.draw(st.integers(1, 24 * 20)))
        here = decide(demands, here, data.draw(evidences(here)), at).rollout
        if here.over:
            return
    raise AssertionError(f"still {here.state}: {here.reason}")


def test_the_champions_requests_are_kept_for_the_step_on_which_it_has_no_users() -> None:
    here = rollout(S.CANARY, share=50, entered_at=T0)
    full = after(here, T0 + timedelta(days=1)).rollout
    assert (full.state, full.champion_seen) == (S.FULL, health("6"))
    # A controller that counted less since takes nothing away, nor does one that counted nothing.
    for fewer in (health("6", 40), health("6", 3), None):
        later = after(full, T0 + timedelta(days=2), champion=fewer)
        assert later.rollout.champion_seen == health("6")
    more = after(full, T0 + timedelta(days=2), champion=health("6", 900)).rollout
    assert (more.state, more.champion_seen) == (S.BAKING, health("6", 900))


def test_the_bake_time_is_told_as_the_spec_writes_it() -> None:
    over = T0 + policy().rollout.bake + MINUTE
    made = after(rollout(S.BAKING, share=100, seen_at=over - MINUTE), over)
    assert made.rollout.state is S.PROMOTED
    assert made.rollout.reason == "no breach within the bake time of 1d"

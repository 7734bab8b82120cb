"""The story: its loans, what is read out of the log, how it is told, and its page."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from html.parser import HTMLParser

import numpy as np
import pytest

from heliotrope.adapters.reports.story import render_story
from heliotrope.domain.decisions import FIRST, Decision, DecisionEntry, DecisionKind, seal
from heliotrope.domain.live_view import Contract, LiveView, RolloutView, WindowView
from heliotrope.domain.story_report import ChapterRecord, StoryReport, comparison, milestones
from heliotrope.domain.synthetic import generate_loans
from heliotrope.domain.synthetic.story import Chapter, ChapterName, Story
from heliotrope.errors import HeliotropeError
from heliotrope.service.story import StoryTeller

DAY = timedelta(days=1)
STORY = Story()
TURN = STORY.chapter(ChapterName.ECONOMY).starts


def log(*entries: tuple[datetime, DecisionKind, str]) -> list[Decision]:
    """A sealed log."""
    sealed: list[Decision] = []
    for at, kind, reason in entries:
        entry = DecisionEntry(
            model="m", at=at, kind=kind, actor="controller", subject="it", reason=reason
        )
        previous = sealed[-1].hash if sealed else FIRST
        sealed.append(seal(entry, len(sealed) + 1, previous))
    return sealed


def window(start: datetime, value: float, version: str = "1", role: str = "champion") -> WindowView:
    return WindowView(
        version=version, role=role, window_from=start, window_to=start + DAY, predicted=500,
        labelled=500, coverage=1.0, value=value, low=value - 0.03, high=min(value + 0.03, 1.0),
        maturity="mature_by_delay", mature=True, estimate=None,
    )  # fmt: skip


def view(now: datetime, rollout: RolloutView | None = None) -> LiveView:
    contract = Contract(
        name="m", description="", task="binary", primary="accuracy", greater_is_better=True,
        floor=0.88, accepted=0.94, fall=0.05, window_seconds=86400, label_delay_seconds=172800,
        mature_coverage=0.9, steps=(10, 100),
    )  # fmt: skip
    return LiveView(
        active=True, matters=(), contract=contract, champion="1", candidate=None, versions=(),
        settled=True, windows=(window(now - 4 * DAY, 0.94),), predicted=500, labelled=500,
        newest_prediction=now, first_labels_due=None, delay=None, drift=None, rollout=rollout,
        alarms=(), triggers=(), events=(),
    )  # fmt: skip


def rollout_of(opened: datetime, over: bool) -> RolloutView:
    return RolloutView(
        number=2, candidate="3", champion="2", cause="person", opened_at=opened, over=over,
        state="rolled_back" if over else "shadow", share=0, entered_at=opened,
        reason="worse on the same requests", checks=(), waits_for="", waits_until=None,
    )  # fmt: skip


def test_each_chapter_changes_what_it_says_and_nothing_else() -> None:
    loans = generate_loans(STORY.loans())
    known = generate_loans(STORY.history())
    times = np.asarray(loans.columns["issued_at"])
    income = np.asarray(loans.columns["annual_income"], dtype=float)

    def within(name: ChapterName) -> np.ndarray:
        chapter = STORY.chapter(name)
        edges = [np.datetime64(m.replace(tzinfo=None), "us") for m in (chapter.starts,
                                                                       chapter.until)]  # fmt: skip
        return np.asarray((times >= edges[0]) & (times < edges[1]))

    usual = float(np.median(income[within(ChapterName.HEALTHY)]))
    assert np.median(income[within(ChapterName.FAULT)]) < usual / 500
    assert np.median(income[within(ChapterName.MENDED)]) > usual / 1.2
    assert np.median(income[within(ChapterName.NEWCOMERS)]) < 0.95 * usual
    rate = {name: float(loans.probability[within(name)].mean()) for name in ChapterName}
    # The fault is in the column, not in the world.
    assert abs(rate[ChapterName.FAULT] - rate[ChapterName.HEALTHY]) < 0.04
    assert rate[ChapterName.ECONOMY] > rate[ChapterName.HEALTHY] + 0.03
    # What is known beforehand is how it begins.
    assert np.array_equal(known.probability, loans.probability[: len(known)])
    assert [chapter.name for chapter in STORY.chapters()] == list(ChapterName)


def test_milestones_count_wrong_answers_from_the_turn_to_the_new_champion() -> None:
    decisions = log(
        (TURN - DAY, DecisionKind.ALARM, "an older one"),
        (TURN + 2 * DAY, DecisionKind.ALARM, "accuracy fell"),
        (TURN + 2.1 * DAY, DecisionKind.DIAGNOSIS, "concept shift: what follows changed"),
        (TURN + 2.2 * DAY, DecisionKind.TRIGGER, "requested, worth it"),
        (TURN + 4 * DAY, DecisionKind.ALIAS, "champion is version 2"),
    )
    windows = [
        *(window(TURN - n * DAY, 0.94) for n in (3, 2, 1)),
        *(window(TURN + n * DAY, 0.70) for n in range(6)),
        *(window(TURN + n * DAY, 0.10, "2", "shadow") for n in range(6)),
    ]
    found = milestones(TURN, decisions, windows)
    assert found.noticed == TURN + 2 * DAY
    assert found.promoted == TURN + 4 * DAY
    assert found.bad == 4 * 150
    assert found.bad_expected == 4 * 30


class ScriptedStage:
    """A platform that does what a script says, a step a look."""

    def __init__(
        self, steps: Iterator[tuple[datetime, list[Decision], RolloutView | None]]
    ) -> None:
        self._steps = steps
        self._now, self._log, self._rollout = next(steps)
        self.forced = 0
        self.broken: str | None = None

    def now(self) -> datetime:
        return self._now

    def view(self) -> LiveView:
        return view(self._now, self._rollout)

    def decisions(self) -> list[Decision]:
        return self._log

    def force_worse(self) -> None:
        self.forced += 1

    def trouble(self) -> str | None:
        return self.broken

    def step(self, _seconds: float) -> None:
        self._now, self._log, self._rollout = next(self._steps, (self._now, self._log,
                                                                 self._rollout))  # fmt: skip


class Listener:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def chapter(self, title: str, chapter: Chapter) -> None:
        self.said.append(title)

    def decided(self, decision: Decision) -> None:
        self.said.append(decision.reason)

    def looked(self, now: datetime, view: LiveView | None) -> None:
        assert view is not None

    def ended(self, record: ChapterRecord) -> None:
        self.said.append(f"{record.name} {record.as_told}")


def tell(stage: ScriptedStage, *names: ChapterName) -> tuple[StoryReport, list[str]]:
    timer = iter(range(10_000))
    heard = Listener()
    teller = StoryTeller(
        STORY, stage, heard, chapter_seconds=200.0, timer=lambda: next(timer), sleep=stage.step
    )
    return teller.tell(tuple(STORY.chapter(name) for name in names)), heard.said


def test_the_story_goes_on_when_the_platform_has_done_its_part() -> None:
    decisions = log(
        (TURN + 2 * DAY, DecisionKind.ALARM, "accuracy fell"),
        (TURN + 3 * DAY, DecisionKind.ALIAS, "champion is version 2"),
    )
    promoted = rollout_of(TURN + 2.5 * DAY, over=True)
    worse = TURN + 5 * DAY
    steps = [
        (TURN, [], None),
        (TURN + 2 * DAY, decisions[:1], rollout_of(TURN + 2.5 * DAY, over=False)),
        (TURN + 3 * DAY, decisions, promoted),
        # The same rollout is over already; the worse one has not begun, then runs, then is gone.
        (TURN + 4 * DAY, decisions, promoted),
        (worse, decisions, rollout_of(worse, over=False)),
        (worse + DAY, decisions, rollout_of(worse, over=True)),
    ]
    stage = ScriptedStage(iter(steps))
    report, said = tell(stage, ChapterName.ECONOMY, ChapterName.WORSE)
    assert said == [
        "The economy turns", "accuracy fell", "champion is version 2", "economy True",
        "A worse model is forced in", "worse True",
    ]  # fmt: skip
    assert stage.forced == 1
    assert report.as_told
    assert report.chapters[1].ended == worse + DAY
    assert [row[2] for row in comparison(report)][:1] == ["2.0 days"]


def test_a_retraining_on_broken_data_is_not_as_it_should_be() -> None:
    fault = STORY.chapter(ChapterName.FAULT)
    decisions = log(
        (fault.starts + DAY, DecisionKind.ALARM, "income is rescaled"),
        (fault.starts + DAY, DecisionKind.RUN, "trained on it"),
    )
    report, said = tell(
        ScriptedStage(iter([(fault.starts, [], None), (fault.until, decisions, None)])),
        ChapterName.FAULT,
    )
    assert not report.as_told
    assert said[-1] == "fault False"


def test_a_chapter_that_never_ends_is_given_up_and_said_so() -> None:
    report, said = tell(ScriptedStage(iter([(TURN, [], None)])), ChapterName.ECONOMY)
    assert said[-1] == "economy False"
    assert report.chapters[0].outcome == "no new champion came"


def test_a_story_without_loans_ends_with_its_reason() -> None:
    stage = ScriptedStage(iter([(TURN, [], None)]))
    stage.broken = "The gateway is gone."
    with pytest.raises(HeliotropeError, match=r"must come. The gateway is gone"):
        tell(stage, ChapterName.ECONOMY)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.marks = 0
        self.away: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.marks += (values.get("class") or "").startswith("mark")
        self.away += [f"{tag} {name}" for name in ("src", "href") if name in values]


def test_the_page_shows_every_decision_escaped_and_asks_nobody() -> None:
    decisions = log(
        (TURN + 2 * DAY, DecisionKind.ALARM, "accuracy <b>fell</b> & fell"),
        (TURN + 3 * DAY, DecisionKind.ALIAS, "champion is version 2"),
    )
    windows = (window(TURN, 0.7), window(TURN + DAY, 0.72), window(TURN + 3 * DAY, 0.9, "10"))
    chapter = ChapterRecord(
        name="economy", title="The economy turns", starts=TURN, ended=TURN + 4 * DAY,
        outcome="champion is version 2", as_told=True,
    )  # fmt: skip
    report = StoryReport(
        model="m", accepted=0.94, floor=0.88, chapters=(chapter,), windows=windows,
        milestones=milestones(TURN, decisions, windows), decisions=tuple(decisions), seconds=90.0,
    )  # fmt: skip
    text = render_story(report)
    page = _Page()
    page.feed(text)
    assert page.marks == 2
    assert page.away == []
    assert "<b>fell" not in text
    assert text.count("accuracy &lt;b&gt;fell&lt;/b&gt; &amp; fell") == 2
    assert "4 days in 1.5 minutes" in " ".join(text.split())


def test_a_chapter_of_no_days_leaves_its_trouble_out() -> None:
    short = Story(healthy=4, fault=0, mended=0, newcomers=0, economy=2, worse=1)
    knobs = short.loans()
    assert knobs.faults == ()
    assert [shift.ramp.start for shift in knobs.covariate_shifts] == [
        short.chapter(ChapterName.ECONOMY).starts.replace(tzinfo=None)
    ]

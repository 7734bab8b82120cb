"""The story: its loans, what is read out of the log, how it is told, and its page."""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from html.parser import HTMLParser

import numpy as np
import pytest

from heliotrope.adapters.reports.story import render_story
from heliotrope.domain.decisions import FIRST, Decision, DecisionEntry, DecisionKind, seal
from heliotrope.domain.live_view import Contract, LiveView, RolloutView, WindowView
from heliotrope.domain.story_report import ChapterRecord, StoryReport, comparison, milestones
from heliotrope.domain.story_verdict import told
from heliotrope.domain.story_words import words, worth_telling
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
            model="m",
            at=at,
            kind=kind,
            actor="controller",
            reason=reason,
            subject="alarm accuracy_fall" if kind is DecisionKind.ALARM else "it",
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
        reason="worse on the same requests.", checks=(), waits_for="", waits_until=None,
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
    assert found.a_day == 500
    report = StoryReport(
        model="m", accepted=0.94, floor=0.88, chapters=(), windows=tuple(windows),
        milestones=found, decisions=tuple(decisions), seconds=90.0,
    )  # fmt: skip
    # The silent failure's 50,000 in ten days, at 28% wrong, are of 17,857 requests a day.
    assert [row[1:] for row in comparison(report)][-2:] == [
        ("50,000", "300; at its traffic 10,700"),
        ("5,000 more a day", "600, a healthy model 120; at its traffic 21,400"),
    ]


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

    def decided(self, decisions: Sequence[Decision]) -> None:
        self.said += [one.reason for one in decisions]

    def looked(self, now: datetime, view: LiveView | None) -> None:
        assert view is not None

    def ended(self, record: ChapterRecord) -> None:
        self.said.append(f"{record.name} {record.as_told}")


def tell(stage: ScriptedStage, *names: ChapterName) -> tuple[StoryReport, list[str]]:
    timer = iter(range(10_000))
    heard = Listener()
    teller = StoryTeller(
        STORY, stage, heard, patience=200.0, timer=lambda: next(timer), sleep=stage.step
    )
    return teller.tell(tuple(STORY.chapter(name) for name in names)), heard.said


def test_the_story_goes_on_when_the_platform_has_done_its_part() -> None:
    decisions = log(
        (TURN + 2 * DAY, DecisionKind.ALARM, "accuracy fell"),
        (TURN + 2 * DAY, DecisionKind.DIAGNOSIS, "concept shift: other things matter"),
        (TURN + 2 * DAY, DecisionKind.TRIGGER, "requested, worth it: much to win"),
        (TURN + 3 * DAY, DecisionKind.ALIAS, "champion becomes version 2: better"),
    )
    promoted = rollout_of(TURN + 2.5 * DAY, over=True)
    worse = TURN + 5 * DAY
    steps = [
        (TURN, [], None),
        (TURN + 2 * DAY, decisions[:3], rollout_of(TURN + 2.5 * DAY, over=False)),
        (TURN + 3 * DAY, decisions, promoted),
        # The same rollout is over already; the worse one has not begun, then runs, then is gone.
        (TURN + 4 * DAY, decisions, promoted),
        (worse, decisions, rollout_of(worse, over=False)),
        (worse + DAY, decisions, rollout_of(worse, over=True)),
    ]
    stage = ScriptedStage(iter(steps))
    report, said = tell(stage, ChapterName.ECONOMY, ChapterName.WORSE)
    assert said == [
        "The economy turns", *(one.reason for one in decisions), "economy True",
        "A worse model", "worse True",
    ]  # fmt: skip
    assert stage.forced == 1
    assert report.as_told
    assert report.chapters[0].outcome == (
        "Alarm after 2.0 days, cause named after 2.0 days, retraining after 2.0 days, a new "
        "champion after 3.0 days."
    )
    assert report.chapters[1].ended == worse + DAY
    assert [row[2] for row in comparison(report)][:2] == [
        "2.0 days; labels take up to 2.0 days", "2.0 days"
    ]  # fmt: skip


FAULTY = (DecisionKind.DIAGNOSIS, "data fault: annual_income must keep its unit.")
REQUESTED = (DecisionKind.TRIGGER, "requested, worth it: much to win")
OTHERS = (DecisionKind.DIAGNOSIS, "covariate shift: other rows come")
ALARMED = (DecisionKind.ALARM, "accuracy fell")


@pytest.mark.parametrize(
    ("name", "found", "as_told", "says"),
    [
        (ChapterName.HEALTHY, [], True, "No alarm and no retraining"),
        (ChapterName.HEALTHY, [ALARMED], False, "accuracy fell"),
        (ChapterName.HEALTHY, [REQUESTED], False, "much to win"),
        (ChapterName.FAULT, [ALARMED, FAULTY], True, "must keep its unit. Named after 1 hours"),
        (ChapterName.FAULT, [ALARMED], False, "No data fault was diagnosed"),
        (ChapterName.FAULT, [FAULTY, REQUESTED], False, "but a retraining was started"),
        (ChapterName.NEWCOMERS, [OTHERS], True, "nothing was retrained"),
        (ChapterName.NEWCOMERS, [FAULTY], False, "No covariate shift was diagnosed"),
        (ChapterName.NEWCOMERS, [OTHERS, REQUESTED], False, "but a retraining was started"),
        (ChapterName.MENDED, [], False, "still held to be at fault"),
        (ChapterName.ECONOMY, [ALARMED, FAULTY], False, "Its cause was not named"),
        (ChapterName.WORSE, [], False, "never rolled out"),
    ],
)
def test_a_chapter_is_as_told_only_if_the_platform_did_what_it_should(
    name: ChapterName, found: list[tuple[DecisionKind, str]], as_told: bool, says: str
) -> None:
    since = STORY.chapter(name).starts
    before = (since - DAY, DecisionKind.DIAGNOSIS, "data fault, covariate shift: an older one")
    decisions = log(before, *((since + DAY / 24, kind, reason) for kind, reason in found))
    verdict = told(name, decisions, since)
    assert (verdict.as_told, says in verdict.outcome) == (as_told, True), verdict.outcome


def test_an_alarm_about_a_machine_says_nothing_of_the_model() -> None:
    since = STORY.chapter(ChapterName.HEALTHY).starts
    (spool,) = log((since + DAY, DecisionKind.ALARM, "HeliotropeSpoolGrowing is on: it grows"))
    spool = spool.model_copy(update={"subject": "alarm HeliotropeSpoolGrowing"})
    assert told(ChapterName.HEALTHY, [spool], since).as_told
    over = log((since + DAY, DecisionKind.ALARM, "accuracy_fall is over: version 2 took over"))
    assert told(ChapterName.HEALTHY, over, since).as_told


def test_mended_data_must_be_found_whole_again() -> None:
    since = STORY.chapter(ChapterName.MENDED).starts
    judged = [
        DecisionEntry(
            model="m", at=since + days * DAY, kind=DecisionKind.VERDICT, actor="controller",
            subject="drift", reason="judged", evidence={"data": data},
        )
        for days, data in ((0.2, "FAIL"), (1.5, "PASS"))
    ]  # fmt: skip
    sealed = [seal(judged[0], 1, FIRST)]
    assert not told(ChapterName.MENDED, sealed, since).as_told
    sealed.append(seal(judged[1], 2, sealed[0].hash))
    verdict = told(ChapterName.MENDED, sealed, since)
    assert verdict.as_told
    assert "whole again after 36 hours" in verdict.outcome


def test_a_worse_model_must_be_taken_back_and_not_only_stopped_by_a_person() -> None:
    since = STORY.chapter(ChapterName.WORSE).starts
    aborted = rollout_of(since, over=True).model_copy(update={"state": "aborted"})
    crowned = log((since + DAY, DecisionKind.ALIAS, "champion becomes version 3: better"))
    assert not told(ChapterName.WORSE, [], since, aborted).as_told
    assert not told(ChapterName.WORSE, crowned, since, rollout_of(since, over=True)).as_told
    assert told(ChapterName.WORSE, [], since, rollout_of(since, over=True)).as_told


def test_a_listener_is_told_each_thing_once_and_in_few_words() -> None:
    at = TURN + DAY
    decisions = log(
        (at, DecisionKind.VERDICT, "drift PASS"),
        (at, DecisionKind.ALARM, "Contradicted is on: accuracy"),
        (at, DecisionKind.ALARM, "Contradicted is on: log_loss"),
        (at + DAY, DecisionKind.ALARM, "Contradicted is over: accuracy"),
        (at, DecisionKind.TRIGGER, "waiting, single flight: " + 40 * "word " + "end"),
    )
    echo = decisions[1].model_copy(update={"subject": "alarm HeliotropeAlarmActive"})
    told_of = worth_telling([*decisions, echo])
    assert [one.sequence for one in told_of] == [2, 4, 5]
    lines = words(told_of[-1], width=56, lines=2)
    assert len(lines) == 2
    assert all(len(line) <= 56 for line in lines)
    assert lines[0].startswith("it: waiting, single flight")
    assert lines[1].endswith("word …")
    assert words(told_of[0], width=56, lines=2) == ["Contradicted is on: accuracy"]


def test_a_chapter_that_never_ends_is_given_up_and_said_so() -> None:
    report, said = tell(ScriptedStage(iter([(TURN, [], None)])), ChapterName.ECONOMY)
    assert said[-1] == "economy False"
    assert report.chapters[0].outcome == "No alarm was raised."


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
    windows = (
        window(TURN, 0.7),
        window(TURN + DAY, 0.72),
        window(TURN + 3 * DAY, 0.9, "10"),
        window(TURN + 3 * DAY, 0.6, "11", "shadow"),
    )
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
    # Users got answers on three days, none of them of version 11, which is drawn all the same.
    assert text.count('class="share v') == 3
    assert text.count('class="v2 shadow"') == 1
    assert "version 11" in text
    assert page.away == []
    assert "<b>fell" not in text
    assert text.count("accuracy &lt;b&gt;fell&lt;/b&gt; &amp; fell") == 2
    assert "4 days in 1.5 minutes" in " ".join(text.split())


@pytest.mark.parametrize("hours", [1, 10, 23, 24])
def test_the_last_day_s_name_stays_within_the_picture(hours: int) -> None:
    chapter = ChapterRecord(
        name="economy", title="The economy turns", starts=TURN,
        ended=TURN + 26 * DAY + timedelta(hours=hours), outcome="over", as_told=True,
    )  # fmt: skip
    report = StoryReport(
        model="m", accepted=0.94, floor=0.88, chapters=(chapter,), windows=(window(TURN, 0.7),),
        milestones=milestones(TURN, [], []), decisions=(), seconds=90.0,
    )  # fmt: skip
    places = [float(x) for x in re.findall(r'class="day" x="([\d.]+)"', render_story(report))]
    assert len(places) >= 13
    assert max(places) <= 956


def test_a_chapter_of_no_days_leaves_its_trouble_out() -> None:
    short = Story(healthy=4, fault=0, mended=0, newcomers=0, economy=2, worse=1)
    knobs = short.loans()
    assert knobs.faults == ()
    assert [shift.ramp.start for shift in knobs.covariate_shifts] == [
        short.chapter(ChapterName.ECONOMY).starts.replace(tzinfo=None)
    ]

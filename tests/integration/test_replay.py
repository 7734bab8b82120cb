"""A replay against a real predictor and a real collector, on a clock that all of them share."""

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from deltalake import DeltaTable

from bench.processes import ServerProcess, free_port
from bench.standin import build_model, loan_features, loan_rows
from heliotrope.adapters.replay_access import Replayed, ReplayPlace, ReplayWish, run_replay
from heliotrope.adapters.replay_rows import History, generated_rows, history_rows
from heliotrope.adapters.source_reader import DuckDBSourceReader
from heliotrope.cli import build_app, run_cli
from heliotrope.clock import SimulatedClock, set_clock
from heliotrope.domain.replay import ReplayRow
from heliotrope.domain.synthetic import Fault, FaultKind, LoanKnobs
from heliotrope.errors import NotFoundError, UnavailableError, UsageError
from heliotrope.spec import ModelSpec, load_spec
from heliotrope.vocabulary import ENV_CLOCK, ENV_COLLECTOR_TOKEN, ENV_COLLECTOR_URL

pytestmark = pytest.mark.timeout(90)
TOKEN = "a-token-for-tests-only"
FIRST = datetime(2024, 3, 1, tzinfo=UTC)
DAYS = 8
ROWS = 600
COMMAND = "from heliotrope.cli import main; main()"
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "credit_risk" / "generated.yaml"


def write_history(folder: Path) -> Path:
    """Loans over eight days, each two labels of three a default; a few that no model takes."""
    frame = pd.DataFrame(loan_rows(ROWS, seed=5))
    frame["issued"] = [FIRST + timedelta(days=DAYS) * n / ROWS for n in range(ROWS)]
    frame["loan_id"] = [f"loan-{n}" for n in range(ROWS)]
    frame["outcome"] = ["default" if n % 3 else "repaid" for n in range(ROWS)]
    frame.loc[frame.index % 100 == 50, "grade"] = "Z"
    # Out of order in the file, since nobody's history is sorted.
    frame.sample(frac=1, random_state=1).to_parquet(folder / "history.parquet")
    features = "".join(
        f"  - {feature.model_dump_json(exclude_none=True)}\n" for feature in loan_features()
    )
    spec = folder / "loans.yaml"
    spec.write_text(
        "name: loans\ntask: binary\nentity_key: loan_id\nevent_time: issued\n"
        "label: {name: outcome, positive: default, delay: 2d}\n"
        "source: {path: history.parquet}\nmetrics: {primary: accuracy}\n"
        f"features:\n{features}"
    )
    return spec


@dataclass
class Town:
    """A collector, a predictor that ships to it, and the clock they share."""

    folder: Path
    model: Path
    spec: ModelSpec
    clock: Path
    collector: ServerProcess
    predictor: ServerProcess

    @property
    def place(self) -> ReplayPlace:
        return ReplayPlace(
            gateway=f"http://127.0.0.1:{self.predictor.port}",
            collector=f"http://127.0.0.1:{self.collector.port}",
            token=TOKEN,
            home=self.folder / "home",
            clock=self.clock,
        )

    def rows(self, since: datetime | None = None) -> Any:
        return history_rows(DuckDBSourceReader(), self.spec, self.spec.source, since)

    def replay(self, wish: ReplayWish, rows: Any = None, **more: Any) -> Replayed:
        return run_replay(self.spec, rows or self.rows(), self.place, wish, **more)

    def restart_collector(self) -> None:
        self.collector = start_collector(self.folder, self.collector.port, self.clock)
        self.collector.wait_ready()

    def restart_predictor(self, port: int) -> None:
        self.predictor = start_predictor(
            self.folder, self.model, port, self.clock, self.collector.port
        )

    def table(self, kind: str) -> pd.DataFrame:
        uri = self.folder / "store" / kind / "loans"
        return DeltaTable(uri).to_pyarrow_table().to_pandas() if uri.exists() else pd.DataFrame()

    def stored(self, kind: str, count: int) -> pd.DataFrame:
        """The table once it holds so many rows; as it is after a minute."""
        # The predictor's answer is out before its record is shipped.
        for _ in range(600):
            table = self.table(kind)
            if len(table) >= count:
                return table
            time.sleep(0.1)
        return self.table(kind)


def start_collector(folder: Path, port: int, clock: Path) -> ServerProcess:
    command = [sys.executable, "-c", COMMAND, "collector", "--store", str(folder / "store")]
    options = ["--port", str(port), "--commit-ms", "50", "--spec", str(folder / "loans.yaml")]
    environment = {ENV_COLLECTOR_TOKEN: TOKEN, ENV_CLOCK: str(clock)}
    return ServerProcess(
        [*command, *options], port, "/readyz", folder / "collector.log", environment=environment
    )


def start_predictor(
    folder: Path, model: Path, port: int, clock: Path, collector: int
) -> ServerProcess:
    command = [sys.executable, "-m", "predictors", "--model_name", "loans"]
    command += ["--model_dir", str(model), "--spool_dir", str(folder / "spool")]
    command += ["--http_port", str(port), "--grpc_port", str(free_port())]
    environment = {
        ENV_COLLECTOR_TOKEN: TOKEN,
        ENV_COLLECTOR_URL: f"http://127.0.0.1:{collector}",
        ENV_CLOCK: str(clock),
    }
    ready = "/v2/models/loans/ready"
    return ServerProcess(command, port, ready, folder / "predictor.log", environment=environment)


@contextmanager
def town_in(folder: Path, model: Path) -> Iterator[Town]:
    spec = load_spec(write_history(folder))
    clock = folder / "clock"
    set_clock(clock, 0.0, FIRST - timedelta(days=30))
    collector = start_collector(folder, free_port(), clock)
    predictor = start_predictor(folder, model, free_port(), clock, collector.port)
    town = Town(folder, model, spec, clock, collector, predictor)
    try:
        collector.wait_ready()
        predictor.wait_ready()
        yield town
    finally:
        for process in (town.predictor, town.collector):
            process.stop(signal.SIGKILL)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    build_model(folder)
    return folder


@pytest.fixture
def town(tmp_path: Path, model: Path) -> Iterator[Town]:
    with town_in(tmp_path, model) as made:
        yield made


DRIVEN = ReplayWish(rate=400.0, drive_clock=True, patience=20.0)
TAKEN = ROWS - ROWS // 100


def test_history_goes_through_the_loop_at_its_own_times_with_late_labels(town: Town) -> None:
    before = SimulatedClock(town.clock).speed
    seen: list[datetime] = []
    done = town.replay(DRIVEN, show=lambda _, now: seen.append(now))
    summary = done.summary
    assert (done.error, done.unsent, done.interrupted) == (None, None, False)
    assert summary.sent == ROWS
    assert summary.answered == {"3": TAKEN}
    ((reason, refused),) = summary.refused.items()
    assert refused == ROWS // 100
    assert "grade must be one of A, B, C" in reason
    assert "Z" not in reason
    assert summary.labels_sent == TAKEN
    assert summary.latency is not None
    assert SimulatedClock(town.clock).speed == before

    predictions = town.stored("predictions", TAKEN)
    labels = town.stored("labels", TAKEN)
    assert predictions["prediction_id"].is_unique
    assert len(predictions) == len(labels) == TAKEN
    history = pd.read_parquet(town.folder / "history.parquet").set_index("loan_id")
    joined = predictions.set_index("entity_key").join(history, rsuffix="_row")
    # The clock waits for late rows: half a second at this speed, and what one answer takes.
    speed = timedelta(days=DAYS) / timedelta(seconds=ROWS / 400)
    late = joined["predicted_at"] - joined["issued"]
    assert late.min() >= timedelta(0)
    assert late.max() < timedelta(seconds=3.0) * speed
    both = labels.set_index("prediction_id").join(predictions.set_index("prediction_id"),
                                                  rsuffix="_p")  # fmt: skip
    by_key = both.set_index("entity_key_p").join(history, rsuffix="_row")
    assert ((by_key["label"] == "default") == (by_key["outcome"] == "default")).all()
    waited = by_key["received_at"] - by_key["issued"]
    assert waited.min() >= timedelta(days=2)
    assert (by_key["happened_at"] - by_key["issued"]).min() >= timedelta(days=2)
    assert seen == sorted(seen)


def test_labels_outlive_a_collector_that_is_killed_and_comes_back(town: Town) -> None:
    kills = [ROWS // 4, ROWS // 2]

    def chaos(counts: Any, _now: datetime) -> None:
        if kills and counts.sent > kills[0]:
            kills.pop(0)
            town.collector.stop(signal.SIGKILL)
            town.restart_collector()

    done = town.replay(replace(DRIVEN, label_delay=timedelta(hours=6)), show=chaos)
    assert done.error is None
    assert not kills
    assert done.summary.labels_sent == TAKEN
    labels = town.stored("labels", TAKEN)
    # An upload whose answer was lost came again; readers know it by its label_id.
    assert labels.drop_duplicates("label_id")["prediction_id"].is_unique
    assert labels["prediction_id"].nunique() == TAKEN


def test_labels_that_nobody_takes_are_kept_in_a_file_that_can_be_sent(
    town: Town, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lose_collector(_history: History, _plan: Any) -> None:
        town.collector.stop(signal.SIGKILL)

    wish = replace(DRIVEN, patience=0.5, label_share=0.5, labels_by_entity=True)
    done = town.replay(wish, started=lose_collector)
    assert isinstance(done.error, UnavailableError)
    assert done.unsent is not None
    lines = [json.loads(line) for line in done.unsent.read_text().splitlines()]
    assert len(lines) == done.summary.labels_left
    answered = sum(done.summary.answered.values())
    assert 0.3 * answered < len(lines) < 0.7 * answered
    assert len({line["entity_key"] for line in lines}) == len(lines)

    town.restart_collector()
    monkeypatch.setenv(ENV_COLLECTOR_TOKEN, TOKEN)
    monkeypatch.setattr(
        sys, "argv",
        ["heliotrope", "labels", "send", str(done.unsent), "--collector", town.place.collector],
    )  # fmt: skip
    assert run_cli(build_app()) == 0
    assert f"{len(lines):,} labels taken" in capsys.readouterr().out
    assert len(town.stored("labels", len(lines))) == len(lines)


def test_rows_are_asked_again_while_a_predictor_restarts(town: Town) -> None:
    killed: list[int] = []

    def chaos(counts: Any, _now: datetime) -> None:
        if counts.sent > ROWS // 3 and not killed:
            killed.append(counts.sent)
            port = town.predictor.port
            town.predictor.stop(signal.SIGKILL)
            town.restart_predictor(port)

    done = town.replay(DRIVEN, show=chaos)
    summary = done.summary
    assert done.error is None
    assert killed
    assert summary.retries > 0
    assert summary.sent == ROWS
    answered, failed = sum(summary.answered.values()), sum(summary.failed.values())
    assert answered + failed + sum(summary.refused.values()) == ROWS
    assert summary.labels_sent == answered
    ids = set(town.stored("labels", answered)["prediction_id"])
    predictions = town.stored("predictions", answered)
    # Whatever was answered is in the store with its label; a row asked twice is there once.
    assert ids <= set(predictions["prediction_id"])


def test_a_gateway_that_is_gone_ends_the_replay_and_says_so(town: Town) -> None:
    def lose_predictor(_history: History, _plan: Any) -> None:
        town.predictor.stop(signal.SIGKILL)

    done = town.replay(replace(DRIVEN, patience=0.2), started=lose_predictor)
    assert isinstance(done.error, UnavailableError)
    assert "The gateway at" in str(done.error)
    assert done.summary.failed["no answer"] > 0
    assert done.summary.sent < ROWS


def test_peers_that_do_not_fit_are_refused_before_the_first_row(town: Town) -> None:
    impatient = replace(DRIVEN, patience=0.1)
    other = town.spec.model_copy(update={"name": "others"})
    nowhere = f"http://127.0.0.1:{free_port()}"
    cases: list[tuple[ModelSpec, ReplayPlace, type[Exception], str]] = [
        (other, town.place, NotFoundError, "must serve others"),
        (town.spec, replace(town.place, gateway=nowhere), UnavailableError, "gateway at"),
        (town.spec, replace(town.place, collector=nowhere), UnavailableError, "collector at"),
        (town.spec, replace(town.place, token="another"), UsageError, "know the token"),
    ]
    for spec, place, kind, says in cases:
        with pytest.raises(kind, match=says):
            run_replay(spec, town.rows(), place, impatient)


def test_the_clock_stands_still_while_something_slow_goes_on(town: Town) -> None:
    clock, busy_at = SimulatedClock(town.clock), [0]
    stood: list[datetime] = []

    def busy() -> bool:
        busy_at[0] += 1
        slow = 2 <= busy_at[0] <= 5
        if slow:
            stood.append(clock.now())
        return slow

    done = town.replay(replace(DRIVEN, label_share=0.0), busy=busy)
    assert done.error is None
    # It was told after the first look that it must wait; from then on the time is the same.
    assert len(stood) == 4
    assert stood[1] == stood[2] == stood[3]
    assert done.summary.sent == ROWS


def test_command_replays_on_the_machines_clock(
    tmp_path: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with town_in(tmp_path, model) as town:
        monkeypatch.setenv(ENV_COLLECTOR_TOKEN, TOKEN)
        monkeypatch.setenv("HELIOTROPE_HOME", str(tmp_path / "home"))
        words = ["heliotrope", "replay", str(tmp_path / "loans.yaml"), "--json", "--rate", "300"]
        words += ["--from", (FIRST + timedelta(days=6)).isoformat(), "--protocol", "v2"]
        words += ["--gateway", town.place.gateway, "--collector", town.place.collector]
        monkeypatch.setattr(sys, "argv", words)
        assert run_cli(build_app()) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["sent"] == ROWS // 4
    assert summary["labels_sent"] == sum(summary["answered"].values()) > 140
    assert summary["rows_from"].startswith("2024-03-07")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--rate", "5", "--speed", "5"], "not both"),
        (["--drive-clock"], "--drive-clock needs a simulated clock"),
        (["--hold-while-training"], "needs --drive-clock"),
        (["--label-share", "2"], "--label-share must be between 0 and 1"),
        (["--labels-by", "luck"], "--labels-by must be prediction or entity"),
        (["--label-delay", "soon"], "--label-delay must be a number and a unit"),
        (["--from", "spring"], "--from must be a time"),
        (["--scenario", "boom"], "--scenario must be one of steady"),
        (["--scenario", "steady", "--rows", "x.csv"], "not both"),
        (["--header", "nothing"], "--header must be NAME: VALUE"),
        (["--gateway", "ftp://x"], "gateway must be http"),
        (["--protocol", "v3"], "protocol must be v1 or v2"),
    ],
)
def test_options_that_contradict_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    says: str,
) -> None:
    spec = write_history(tmp_path)
    monkeypatch.setenv(ENV_COLLECTOR_TOKEN, TOKEN)
    monkeypatch.delenv(ENV_CLOCK, raising=False)
    monkeypatch.setattr(sys, "argv", ["heliotrope", "replay", str(spec), *words])
    assert run_cli(build_app()) == 2
    assert says in capsys.readouterr().err


def test_generated_history_has_the_faults_that_were_asked_for() -> None:
    spec = load_spec(EXAMPLE)
    breaks = datetime(2024, 1, 6)  # noqa: DTZ001 - UTC by definition
    fault = Fault(FaultKind.SCALE, "annual_income", start=breaks, factor=1000.0)
    since = datetime(2024, 1, 3, tzinfo=UTC)
    plain, broken = (
        list(generated_rows(LoanKnobs(rows=500, days=10, faults=faults), spec, since).rows)
        for faults in ((), (fault,))
    )
    assert [row.at for row in plain] == sorted(row.at for row in plain)
    assert plain[0].at >= since
    assert set(plain[0].values) == {*spec.feature_names, "loan_id"}
    for row, other in zip(plain, broken, strict=True):
        factor = 1000.0 if row.at >= breaks.replace(tzinfo=UTC) else 1.0
        assert other.values["annual_income"] == pytest.approx(factor * row.values["annual_income"])
        assert row.label == other.label


def test_history_may_be_a_csv_whose_values_are_text(tmp_path: Path) -> None:
    spec = load_spec(write_history(tmp_path))
    frame = pd.read_parquet(tmp_path / "history.parquet")
    frame.to_csv(tmp_path / "history.csv", index=False)
    text = spec.source.model_copy(update={"path": str(tmp_path / "history.csv")})
    with (
        history_rows(DuckDBSourceReader(), spec, spec.source) as typed,
        history_rows(DuckDBSourceReader(), spec, text) as read,
    ):
        assert (typed.count, typed.first) == (read.count, read.first) == (ROWS, FIRST)
        first, again = next(typed.rows), next(read.rows)
    assert first.at == again.at
    assert first.label == again.label
    assert first.values == again.values


def test_rows_without_what_the_model_needs_are_counted_by_reason(town: Town) -> None:
    rows = [
        ReplayRow(0, FIRST, {"age": 17}, "default"),
        *(ReplayRow(n, FIRST, {"colour": "red"}, "default") for n in (1, 2)),
    ]
    history = nullcontext(History(3, FIRST, FIRST, iter(rows)))
    done = town.replay(replace(DRIVEN, rate=None, speed=1e5), history)
    assert sorted(done.summary.refused.values()) == [1, 2]
    assert done.summary.refused["colour must be left out: the model has no such feature."] == 2
    assert (done.summary.labels_sent, done.unsent) == (0, None)

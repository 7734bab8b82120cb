"""The supervisor's pure parts, and those that need no platform."""

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliotrope.adapters.embedded.serving import EmbeddedServing
from heliotrope.adapters.embedded.supervisor.clock_file import pause_clock, platform_clock
from heliotrope.adapters.embedded.supervisor.envoy import Backend, clusters, routes
from heliotrope.adapters.embedded.supervisor.first_plan import FirstPlans
from heliotrope.adapters.embedded.supervisor.process import BackOff, last_line, rotate
from heliotrope.adapters.embedded.supervisor.proven import Proven
from heliotrope.adapters.embedded.supervisor.split import split_now
from heliotrope.adapters.embedded.supervisor.state import (
    PlatformState,
    folder_of,
    start_ticks,
    write_state,
)
from heliotrope.cli.labels import DEFAULT_URL, collector_address
from heliotrope.clock import SimulatedClock, SystemClock
from heliotrope.domain.serving_plan import Revision, ServingPlan
from heliotrope.errors import NotFoundError, UnavailableError
from heliotrope.vocabulary import ENV_COLLECTOR_URL, HEADER_REPLAY, Role

AT = datetime(2026, 1, 1, tzinfo=UTC)


def plan(version: str = "1", model: str = "toy") -> ServingPlan:
    one = Revision(version=version, role=Role.CHAMPION)
    return ServingPlan(model=model, revisions=(one,), weights={version: 100}, at=AT, reason="test")


@st.composite
def weights(draw: st.DrawFn) -> dict[str, int]:
    cuts = sorted(draw(st.lists(st.integers(0, 100), min_size=1, max_size=4)))
    parts = [b - a for a, b in zip([0, *cuts], [*cuts, 100], strict=True)]
    return {str(number): part for number, part in enumerate(parts)}


@given(weights(), st.sets(st.sampled_from("0123")))
def test_a_split_adds_up_and_only_ready_versions_with_a_weight_get_traffic(
    wanted: dict[str, int], ready: set[str]
) -> None:
    split = split_now(wanted, ready, {})
    able = {version for version, weight in wanted.items() if weight and version in ready}
    assert sum(split.values()) == (100 if able else 0)
    assert set(split) <= able
    total = sum(wanted[version] for version in able)
    for version in able:
        assert abs(split.get(version, 0) - wanted[version] * 100 / total) < 1


@given(weights())
def test_a_split_of_versions_that_are_all_ready_is_the_plan(wanted: dict[str, int]) -> None:
    expected = {version: weight for version, weight in wanted.items() if weight}
    assert split_now(wanted, set(wanted), {"9": 100}) == expected


def test_the_last_split_stays_while_nobody_is_ready() -> None:
    assert split_now({"2": 100}, set(), {"1": 100}) == {"1": 100}


def test_pauses_double_up_to_half_a_minute_and_end_with_a_healthy_life() -> None:
    pauses = BackOff()
    assert [pauses.after(0.5) for _ in range(8)] == [0, 1, 2, 4, 8, 16, 30, 30]
    assert pauses.after(11) == 0
    assert pauses.after(0.5) == 1


def test_a_large_log_is_kept_once_and_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "one.log"
    with log.open("ab") as writer:
        writer.write(b"old\n" * 100)
        writer.flush()
        rotate(log, most=1000)
        assert log.stat().st_size == 400
        rotate(log, most=100)
        writer.write(b"new\n")
    assert log.read_bytes() == b"new\n"
    assert (tmp_path / "one.log.1").read_bytes() == b"old\n" * 100
    assert last_line(log) == "new"
    assert last_line(tmp_path / "none.log") == ""


def test_a_config_has_a_version_of_its_content() -> None:
    one, two = Backend("toy", "1", 18001), Backend("toy", "2", 18002)
    assert clusters([one, two]) == clusters([two, one])
    assert clusters([one])["version_info"] != clusters([one, two])["version_info"]
    split = {"toy": {"1": 90, "2": 10}}
    same, moved = routes(split, [one, two]), routes({"toy": {"1": 89, "2": 11}}, [one, two])
    assert routes(split, [two, one]) == same
    assert moved["version_info"] != same["version_info"]


def test_no_user_can_say_that_a_request_is_one_of_the_platform_s_own() -> None:
    (made,) = routes({"toy": {"1": 100}}, [Backend("toy", "1", 1000)])["resources"]
    assert made["request_headers_to_remove"] == [HEADER_REPLAY]


def test_spares_answer_a_version_s_users_and_nobody_who_asks_for_it_by_number() -> None:
    one, two = Backend("toy", "1", 18001), Backend("toy", "2", 18002, spares=(18001,))
    made = {c["name"]: c["load_assignment"]["endpoints"] for c in clusters([one, two])["resources"]}

    def ports(name: str) -> list[list[int]]:
        return [
            [e["endpoint"]["address"]["socket_address"]["port_value"] for e in of["lb_endpoints"]]
            for of in made[name]
        ]

    assert ports("toy/2") == [[18002], [18001]]
    assert [of["priority"] for of in made["toy/2"]] == [0, 1]
    assert ports("toy/2-alone") == [[18002]]
    assert ports("toy/1") == [[18001]]
    (host,) = routes({"toy": {"2": 100}}, [one, two])["resources"][0]["virtual_hosts"]
    by_number = [r["route"]["cluster"] for r in host["routes"] if "cluster" in r.get("route", {})]
    assert by_number == ["toy/1-alone", "toy/2-alone"]
    users = [r["route"]["weighted_clusters"] for r in host["routes"] if "weighted" in str(r)]
    assert all(u["clusters"] == [{"name": "toy/2", "weight": 100}] for u in users)
    assert len(users) == 3
    hedged = [r["route"] for r in host["routes"] if "hedge_policy" in r.get("route", {})]
    assert [r.get("weighted_clusters") for r in hedged] == users
    assert "hedge_policy" not in str(routes({"toy": {"1": 100}}, [one, two]))


def test_who_has_had_users_is_known_after_a_restart_until_no_plan_names_it(tmp_path: Path) -> None:
    file = tmp_path / "platform" / "proven.json"
    first = Proven(file)
    first.note("toy", ["1", "2"], {"1": 100})
    assert (first.has("toy", "1"), first.has("toy", "2")) == (True, False)
    again = Proven(file)
    again.note("toy", ["1", "2"], {"2": 100})
    assert again.has("toy", "1")
    assert again.has("toy", "2")
    again.note("toy", ["2"], {"2": 100})
    assert not Proven(file).has("toy", "1")
    # A plan that takes it in again has not sent anybody to it yet.
    again.note("toy", ["1", "2"], {"2": 100})
    assert not again.has("toy", "1")


@pytest.mark.parametrize("text", ["", "no json", "[1]", '{"toy": 1}'])
def test_a_broken_file_of_who_had_users_begins_anew(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "proven.json"
    file.write_text(text)
    assert not Proven(file).has("toy", "1")
    assert str(file) in caplog.text


def test_a_first_plan_waits_for_a_champion_and_never_replaces_a_plan(tmp_path: Path) -> None:
    serving = EmbeddedServing(tmp_path)
    champions: dict[str, str] = {}

    def champion(model: str) -> str:
        if model not in champions:
            raise NotFoundError(f"no champion of {model}")
        return champions[model]

    first = FirstPlans(serving, SystemClock(), champion, {"toy": "heliotrope train toy.yaml"})

    async def look() -> None:
        for model in first.waiting():
            await first.look(model)

    asyncio.run(look())
    assert serving.plan("toy") is None
    assert "heliotrope train toy.yaml" in first.messages["toy"]
    champions["toy"] = "4"
    asyncio.run(look())
    made = serving.plan("toy")
    assert made is not None
    assert made.weights == {"4": 100}
    assert made.revisions == (Revision(version="4", role=Role.CHAMPION),)
    assert first.waiting() == []
    assert not serving.apply_first(plan("5"))
    assert serving.plan("toy") == made


def test_plans_are_kept_while_the_platform_is_down_and_nothing_is_said_of_now(
    tmp_path: Path,
) -> None:
    serving = EmbeddedServing(tmp_path)
    assert serving.observe("toy") is None
    assert serving.plan("toy") is None
    serving.apply(plan("1"))
    serving.apply(plan("2"))
    assert serving.plan("toy") == plan("2")
    with pytest.raises(UnavailableError, match="heliotrope up"):
        serving.observe("toy")
    assert [path.name for path in (tmp_path / "serving").iterdir()] == ["toy.json"]


def test_a_plan_file_that_is_none_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "serving").mkdir()
    (tmp_path / "serving" / "toy.json").write_text('{"model": "toy"}')
    with pytest.raises(UnavailableError, match=r"toy\.json must be a serving plan"):
        EmbeddedServing(tmp_path).plan("toy")


def test_simulated_time_stands_still_while_the_platform_is_down(tmp_path: Path) -> None:
    assert platform_clock(tmp_path, None, None) is None
    file = platform_clock(tmp_path, 1000.0, AT)
    assert file is not None
    assert SimulatedClock(file).speed == 1000
    pause_clock(file)
    stopped = SimulatedClock(file).now()
    assert stopped >= AT
    assert SimulatedClock(file).now() == stopped
    assert platform_clock(tmp_path, None, None) == file
    assert SimulatedClock(file).speed == 1000
    later = AT + timedelta(days=40)
    assert platform_clock(tmp_path, 0.0, later) == file
    assert SimulatedClock(file).now() == later


def test_labels_go_to_the_running_platform_unless_it_is_said_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELIOTROPE_HOME", str(tmp_path))
    monkeypatch.delenv(ENV_COLLECTOR_URL, raising=False)
    assert collector_address("") == DEFAULT_URL
    folder_of(tmp_path).mkdir()
    running = PlatformState(
        pid=os.getpid(), ticks=start_ticks(os.getpid()) or 0, home=str(tmp_path), specs=(),
        started_at=AT, stopping=False, ready=True, urls={"collector": "http://127.0.0.1:9"},
        children=(), models=(), notes=(),
    )  # fmt: skip
    write_state(tmp_path, running)
    assert collector_address("") == "http://127.0.0.1:9"
    monkeypatch.setenv(ENV_COLLECTOR_URL, "http://elsewhere:1")
    assert collector_address("") == "http://elsewhere:1"
    assert collector_address("http://given:2") == "http://given:2"
    write_state(tmp_path, running.model_copy(update={"ticks": running.ticks + 1}))
    monkeypatch.delenv(ENV_COLLECTOR_URL)
    assert collector_address("") == DEFAULT_URL

"""`heliotrope retrain`: ordered by a person, run by itself, seen to its end, written down."""

import json
import time
from pathlib import Path
from typing import Any

from heliotrope.vocabulary import ALIAS_CANDIDATE, TAG_CAUSE


def triggers(workshop: Any) -> list[dict[str, Any]]:
    """As the command tells them."""
    ran = workshop.cli("triggers", "toy", "--json")
    assert ran.code == 0, ran.err
    found: list[dict[str, Any]] = json.loads(ran.out)
    return found


def test_an_order_trains_a_candidate_by_itself_and_the_log_says_who_and_why(
    workshop: Any,
) -> None:
    spec = str(workshop.write(workshop.loans()))
    first = workshop.train(Path(spec))
    assert first.version == "1", first.reason
    workshop.write(workshop.loans(seed=1, signal=1.5))
    ordered = workshop.run("retrain", "toy", "--why", "a new source", "--spec", spec, "--json")
    assert ordered.code == 0, ordered.err
    trigger = json.loads(ordered.out)
    assert (trigger["state"], trigger["cause"]["text"]) == ("running", "a new source")
    # The one who ordered is gone. Another order waits for the run, and says for which.
    again = workshop.cli("retrain", "toy", "--why", "once more", "--json")
    waiting = json.loads(again.out)
    assert (again.code, waiting["state"], waiting["rule"]) == (0, "waiting", "single flight")
    deadline = time.monotonic() + 200
    while (found := triggers(workshop))[-1]["state"] == "running":
        log = workshop.home / "runs" / found[-1]["run_key"] / "log.txt"
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
    (ended,) = [one for one in found if one["cause"]["text"] == "a new source"]
    assert ended["state"] == "ended"
    assert ended["run_key"].startswith("toy-person-")
    assert ended["outcome"] in ("registered", "not_accepted"), ended["reason"]
    if ended["outcome"] == "registered":
        candidate = workshop.here.registry.by_alias("toy", ALIAS_CANDIDATE)
        assert candidate.version == ended["version"] == "2"
        assert candidate.tags[TAG_CAUSE] == "person: a new source"
    shown = workshop.cli("triggers", "toy")
    assert "a new source" in shown.out
    assert ended["outcome"].replace("_", " ") in shown.out
    log = json.loads(workshop.cli("log", "toy", "--json").out)
    kinds = [one["kind"] for one in log]
    assert kinds.count("run") == 1
    assert kinds[:2] == ["person", "trigger"]
    assert log[0]["actor"].startswith("person:")
    assert workshop.cli("log", "toy", "--verify").code == 0

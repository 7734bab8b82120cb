"""Dashboards as Grafana loads them: laid out without overlap, every panel answerable."""

import json
import re
from itertools import combinations
from typing import Any

import pytest

from heliotrope.telemetry.files import DASHBOARDS, telemetry_files
from heliotrope.telemetry.panels import Dashboard, Kind, Panel, Query, Row, asked

FILES = {name: text for name, text in telemetry_files().items() if name.startswith("grafana/")}
EVERY = pytest.mark.parametrize("name", FILES)


def loaded(name: str) -> dict[str, Any]:
    return json.loads(FILES[name])  # type: ignore[no-any-return]


def test_each_dashboard_has_a_file_named_by_its_address() -> None:
    assert {f"grafana/{dashboard.uid}.json" for dashboard in DASHBOARDS} == set(FILES)
    assert {loaded(name)["uid"] for name in FILES} == {dashboard.uid for dashboard in DASHBOARDS}
    # Grafana takes no longer ones.
    assert all(re.fullmatch(r"[a-z-]{1,40}", dashboard.uid) for dashboard in DASHBOARDS)


@EVERY
def test_panels_lie_in_the_grid_and_do_not_overlap(name: str) -> None:
    panels = loaded(name)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    assert all(at["x"] >= 0 and at["x"] + at["w"] <= 24 for at in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or apart, (one, other)


@EVERY
def test_every_panel_asks_the_chosen_prometheus_about_the_chosen_model(name: str) -> None:
    dashboard = loaded(name)
    assert [one["name"] for one in dashboard["templating"]["list"]] == ["datasource", "model"]
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    for panel in panels:
        assert panel["description"]
        assert panel["targets"]
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs)
        assert all(re.fullmatch("[A-Z]", ref) for ref in refs)
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert any('model="$model"' in t["expr"] for panel in panels for t in panel["targets"])


@EVERY
def test_titles_say_one_thing_each(name: str) -> None:
    titles = [panel["title"] for panel in loaded(name)["panels"] if panel["type"] != "row"]
    assert len(set(titles)) == len(titles)


def test_the_ends_of_an_interval_are_filled_between() -> None:
    for dashboard in DASHBOARDS:
        for panel in dashboard.panels():
            legends = [query.legend for query in panel.queries]
            assert {query.band_to for query in panel.queries} - {""} <= set(legends)
    panels = loaded("grafana/heliotrope-model.json")["panels"]
    (panel,) = [one for one in panels if one["title"].startswith("Primary metric")]
    band = [
        (override["matcher"]["options"], prop["value"])
        for override in panel["fieldConfig"]["overrides"]
        for prop in override["properties"]
        if prop["id"] == "custom.fillBelowTo"
    ]
    assert band == [("A", "low")]


def test_variables_are_filled_in_as_grafana_would() -> None:
    query = Query('rate(a{model="$model"}[$__rate_interval])', "{{role}}")
    panel = Panel("P", (query,), "Of a.", Kind.NUMBER)
    (one,) = asked([Dashboard("d", "D", "A test.", (Row("R", (panel,)),))], "loans", "4s")
    assert one.expr == 'rate(a{model="loans"}[4s])'
    assert str(one) == 'D / P: rate(a{model="loans"}[4s])'


def test_nothing_is_left_to_fill_in() -> None:
    assert [query for query in asked(DASHBOARDS, "loans") if "$" in query.expr] == []

"""The catalogue keeps Prometheus's conventions, and nothing in it goes unseen."""

import re
from collections import Counter

import pytest

from heliotrope.adapters.exposition import exposition
from heliotrope.telemetry.alerts import ALERTS
from heliotrope.telemetry.board import Board
from heliotrope.telemetry.catalogue import CATALOGUE, LABELS, owned_by
from heliotrope.telemetry.files import DASHBOARDS, telemetry_files
from heliotrope.telemetry.metric import Metric, MetricType, Owner
from heliotrope.telemetry.panels import asked
from heliotrope.telemetry.recording import RECORDING_RULES

EVERY = pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)
ARTICLE = {
    "ml_predictions_total": {"model", "outcome"},
    "ml_correct_predictions_total": {"model"},
    "ml_model_accuracy": {"model"},
    "ml_data_drift_score": {"model"},
}
"""Names and labels that rules and dashboards in the field use already."""


def test_a_name_is_given_once() -> None:
    assert [n for n, count in Counter(m.name for m in CATALOGUE).items() if count > 1] == []


def test_every_owner_has_its_part_and_the_parts_are_all() -> None:
    parts = [owned_by(owner) for owner in Owner]
    assert all(parts)
    assert sorted(m.name for part in parts for m in part) == sorted(m.name for m in CATALOGUE)


@EVERY
def test_names_tell_type_and_unit(metric: Metric) -> None:
    assert re.fullmatch(r"ml_[a-z0-9]+(_[a-z0-9]+)*", metric.name)
    assert metric.name.endswith("_total") == (metric.type is MetricType.COUNTER)
    base = metric.name.removesuffix("_total")
    for unit in ("seconds", "bytes"):
        assert base.endswith(f"_{unit}") == (metric.unit == unit)
    assert metric.unit in ("", "seconds", "bytes", "ratio")
    # What is counted is never a unit; these end a histogram's own series.
    assert not metric.name.endswith(("_count", "_sum", "_bucket", "_info_total"))


@EVERY
def test_help_is_a_sentence_of_its_own(metric: Metric) -> None:
    assert metric.help.endswith(".")
    assert metric.help[0].isupper() or metric.help[0].isdigit() or metric.help.startswith("ml_")
    assert "\n" not in metric.help
    assert [m.name for m in CATALOGUE if m.help == metric.help] == [metric.name]


@EVERY
def test_labels_are_known_and_their_values_few(metric: Metric) -> None:
    assert set(metric.labels) <= set(LABELS)
    assert len(set(metric.labels)) == len(metric.labels)
    # A model's series are asked for by its name.
    if "version" in metric.labels or "feature" in metric.labels:
        assert "model" in metric.labels


def test_no_label_is_kept_that_nothing_uses() -> None:
    assert {label for metric in CATALOGUE for label in metric.labels} == set(LABELS)


@EVERY
def test_buckets_rise_and_only_histograms_have_them(metric: Metric) -> None:
    assert bool(metric.buckets) == (metric.type is MetricType.HISTOGRAM)
    assert list(metric.buckets) == sorted(set(metric.buckets))


@pytest.mark.parametrize("name", ARTICLE)
def test_names_in_use_elsewhere_keep_their_labels(name: str) -> None:
    (metric,) = [metric for metric in CATALOGUE if metric.name == name]
    assert ARTICLE[name] <= set(metric.labels)


def names_in(text: str) -> set[str]:
    """Metrics and recording rules that a query names."""
    bare = re.sub(r'"[^"]*"|(?:by|on|group_left|group_right) \([^)]*\)', "", text)
    return set(re.findall(r"[a-z_]+:[a-z0-9_:]+|\bml_[a-z0-9_]+", bare))


def base(name: str) -> str:
    histograms = {m.name for m in CATALOGUE if m.type is MetricType.HISTOGRAM}
    bare = re.sub(r"_(bucket|sum|count)$", "", name)
    return bare if bare in histograms else name


QUERIES = [
    *(query.expr for query in asked(DASHBOARDS, "loans")),
    *(rule.expr for rule in (*ALERTS, *RECORDING_RULES)),
]


def test_every_metric_is_on_a_panel_or_in_a_rule() -> None:
    seen = {base(name) for query in QUERIES for name in names_in(query)}
    assert {metric.name for metric in CATALOGUE} - seen == set()


def test_every_controllers_metric_is_on_a_panel() -> None:
    panels = {base(name) for q in asked(DASHBOARDS, "loans") for name in names_in(q.expr)}
    assert {m.name for m in owned_by(Owner.CONTROLLER)} - panels == set()


def test_queries_name_nothing_that_is_not_there() -> None:
    known = {metric.name for metric in CATALOGUE} | {rule.record for rule in RECORDING_RULES}
    assert {base(name) for query in QUERIES for name in names_in(query)} - known == set()


def test_the_page_of_metrics_tells_each_once_with_its_labels() -> None:
    page = telemetry_files()["metrics.md"]
    for metric in CATALOGUE:
        (line,) = [line for line in page.splitlines() if line.startswith(f"| `{metric.name}` |")]
        assert line.endswith(f"| {metric.help} |")
        assert line.count(" | ") == 3
    assert page.startswith("<!-- Generated")


def test_a_scrape_tells_every_metric_before_anything_happened() -> None:
    text = exposition(Board(CATALOGUE)).decode()
    for metric in CATALOGUE:
        assert f"# HELP {metric.name} {metric.help}\n" in text
        assert f"# TYPE {metric.name} {metric.type}\n" in text

"""A spec is refused with every problem at once, or accepted and frozen."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from heliotrope.errors import SpecError
from heliotrope.spec import ModelSpec, load_spec, parse_spec, spec_files, spec_json_schema
from heliotrope.spec.base import format_duration, parse_duration
from heliotrope.spec.loading import MAX_BYTES, dump_spec


def good() -> dict[str, Any]:
    return {
        "name": "credit-risk",
        "task": "binary",
        "entity_key": "loan_id",
        "event_time": "issued_at",
        "label": {"name": "defaulted", "positive": True, "delay": "30d"},
        "source": {"path": "loans.parquet"},
        "features": [
            {"name": "income", "type": "float", "min": 0, "max": 1e7, "nullable": True},
            {"name": "home", "type": "category", "categories": ["RENT", "OWN"]},
            {"name": "employed", "type": "boolean"},
        ],
        "metrics": {"primary": "roc_auc", "others": ["log_loss"]},
        "gates": {"bounds": {"roc_auc": 0.6}},
    }


def edited(path: str, value: Any) -> str:
    """The good spec as YAML with one place set; a place is `a.b[0].c`."""
    spec: Any = good()
    steps: list[str | int] = []
    for part in path.replace("]", "").split("."):
        name, *indices = part.split("[")
        steps += [name, *map(int, indices)]
    at = spec
    for step in steps[:-1]:
        at = at.setdefault(step, {}) if isinstance(at, dict) else at[step]
    at[steps[-1]] = value
    return yaml.safe_dump(spec)


def problems(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse_spec(text)
    return [str(problem) for problem in caught.value.problems]


REFUSED = [
    ("name", "Credit Risk", "name", "match"),
    ("name", "x" * 51, "name", "at most 50"),
    ("task", "ranking", "task", "'binary', 'multiclass' or 'regression'"),
    ("colour", "red", "colour", "known key"),
    ("label.positve", True, "label.positve", "did you mean positive"),
    ("label.positive", None, "label.positive", "name the positive class"),
    ("label.negative", True, "label.negative", "another value than label.positive"),
    ("label.negative", "no", "label.negative", "of its type"),
    ("label.classes", ["a", "b", "c"], "label.classes", "left out for task binary"),
    ("label.delay", "a month", "label.delay", "number and a unit"),
    ("label.delay", "99999d", "label.delay", "at most 36500d"),
    ("source.path", "gs://bucket/x.csv", "source.path", "local path or s3://"),
    ("source.path", "s3://key:secret@bucket/x.csv", "source.path", "no credentials"),
    ("source.path", "loans", "source.format", "csv, parquet or delta"),
    ("source.version", 3, "source.version", "left out for format parquet"),
    ("source.delimiter", "||", "source.delimiter", "at most 1"),
    ("features", [], "features", "at least 1"),
    ("features[0].min", 2e7, "features[0].min", "at most max (10000000.0)"),
    ("features[0].max", float("inf"), "features[0].max", "finite"),
    ("features[0].type", "decimal", "features[0].type", "'float', 'integer'"),
    ("features[0].name", "home", "features[1].name", "unique"),
    ("features[0].name", "defaulted", "features[0].name", "not be the label"),
    ("features[0].name", "two words", "features[0].name", "match"),
    ("features[0].name", "_row", "features[0].name", "reserved"),
    ("features[0].categories", ["x"], "features[0].categories", "left out for type float"),
    ("features[1].categories", ["A", "A"], "features[1].categories", "each value once"),
    ("features[1].categories", None, "features[1].categories", "at least one value"),
    ("features[2].min", 0, "features[2].min", "left out for type boolean"),
    ("entity_key", "issued_at", "label.name", "differ from"),
    ("event_time", None, "event_time", "where the label has a delay"),
    ("metrics.primary", "mae", "metrics.primary", "one of accuracy"),
    ("metrics.others", ["auc"], "metrics.others[0]", "one of accuracy"),
    ("metrics.others", ["brier", "f1", "brier"], "metrics.others[2]", "named once"),
    ("metrics.threshold", 1.5, "metrics.threshold", "less than 1"),
    ("gates.bounds", {"roc_auc": 60}, "gates.bounds.roc_auc", "between 0 and 1"),
    ("gates.bounds", {"rmse": 1}, "gates.bounds.rmse", "one of accuracy"),
    ("gates.bounds", {"roc_auc": float("nan")}, "gates.bounds.roc_auc", "a finite number"),
    ("gates.confidence", 0.2, "gates.confidence", "greater than 0.5"),
    ("gates.minimum_rows", 0, "gates.minimum_rows", "1 or more"),
    ("slices", [{"feature": "age"}], "slices[0].feature", "be a feature"),
    ("slices", [{"feature": "income"}], "slices[0].bins", "give edges"),
    ("slices", [{"feature": "income", "bins": [2, 1]}], "slices[0].bins", "rise strictly"),
    ("slices", [{"feature": "home"}, {"feature": "home"}], "slices[1].feature", "divide once"),
    ("slices", [{"feature": "income", "bins": [1, float("nan")]}], "slices[0].bins[1]", "finite"),
    ("split", {"holdout": 0.6, "calibration": 0.6}, "split.calibration", "tenth of the rows"),
    ("trainer.build", "my trainer", "trainer.build", "dotted path"),
    ("trainer.seed", -1, "trainer.seed", "0 or more"),
    ("rollout", {"steps": [10, 5, 100]}, "rollout.steps[1]", "rise. Got 5 after 10"),
    ("rollout", {"steps": [10, 50]}, "rollout.steps[1]", "100, the last step"),
    ("rollout", {"step_minimum": "30d"}, "rollout.step_timeout", "longer than step_minimum (30d)"),
    ("rollout", {"step_timeout": "0s"}, "rollout.step_timeout", "longer than step_minimum (10m)"),
    ("monitoring", {"k": 4, "n": 3}, "monitoring.k", "at most n (3)"),
    ("monitoring", {"window": "0d"}, "monitoring.window", "1s or longer"),
    ("monitoring", {"floor": 55}, "monitoring.floor", "between 0 and 1, as roc_auc is"),
    ("monitoring", {"floor": float("nan")}, "monitoring.floor", "a finite number"),
    ("retraining", {"schedule": "0 2 * *"}, "retraining.schedule", "five fields"),
    ("retraining", {"schedule": "0 25 * * *"}, "retraining.schedule", "hour between 0 and 23"),
    ("stream", "perhaps", "stream", "true or false"),
]


@pytest.mark.parametrize(("path", "value", "field", "must"), REFUSED)
def test_a_bad_value_is_refused_naming_field_and_bound(
    path: str, value: Any, field: str, must: str
) -> None:
    found = problems(edited(path, value))
    assert any(p.startswith(f"{field} must ") and must in p for p in found), found


def test_items_that_are_no_mapping_are_told_and_not_that_they_lack() -> None:
    assert problems(edited("features", ["income", "home"])) == [
        "features[0] must be a mapping of keys. Got 'income'.",
        "features[1] must be a mapping of keys. Got 'home'.",
    ]


def test_a_key_like_no_other_is_told_what_there_is() -> None:
    (found,) = problems(edited("colour", "red"))
    assert found.startswith("colour must be a known key: name, description, task")


def test_a_label_of_no_type_is_told_once() -> None:
    assert problems(edited("label.positive", 1.5)) == [
        "label.positive must be text, a whole number or true or false. Got 1.5."
    ]


def test_a_bound_says_which_values_a_metric_can_take() -> None:
    spec = good() | {
        "task": "regression",
        "label": {"name": "defaulted", "delay": "30d"},
        "metrics": {"primary": "r2"},
        "gates": {"bounds": {"r2": 1.5, "mae": -1}},
    }
    assert sorted(problems(yaml.safe_dump(spec))) == [
        "gates.bounds.mae must be 0 or more, as mae is. Got -1.0.",
        "gates.bounds.r2 must be 1 or less, as r2 is. Got 1.5.",
    ]


def test_margin_and_tolerance_contradict_each_other() -> None:
    found = problems(edited("gates", {"margin": 0.01, "tolerance": 0.02}))
    assert any(p.startswith("gates.tolerance must be 0 when margin is set") for p in found)


def test_all_problems_come_at_once() -> None:
    spec = good() | {"name": "X", "task": "nope", "colour": 1}
    spec["features"][0]["min"] = 1e9
    found = problems(yaml.safe_dump(spec))
    assert {p.split(" must ")[0] for p in found} == {"name", "task", "colour", "features[0].min"}


# Forty levels of two references each: printed whole, it would never end.
LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}, *a{i}]\n" for i in range(40))


@pytest.mark.parametrize(
    ("text", "must"),
    [
        ("", "mapping"),
        ("- a\n- b", "mapping"),
        ("name: [", "be YAML"),
        ("name: a\nname: b", "given twice"),
        ("1: a", "a key must be text"),
        ("name: !!python/object/apply:os.system [ls]", "be YAML"),
        ("a: " + "[" * 5000, "be YAML"),
        ("a: &a [*a]", "be YAML"),
        (LAUGHS, "known key"),
        ("# " + "x" * MAX_BYTES, f"at most {MAX_BYTES:,} bytes"),
        ("name: '{{$.x}}'", "which KFP replaces"),
        ("a: \x00", "be YAML"),
    ],
)
def test_what_is_not_a_spec_at_all_is_refused(text: str, must: str) -> None:
    assert any(must in p for p in problems(text))


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SpecError, match="file must"):
        load_spec(path)


def test_a_relative_source_is_seen_from_the_specs_folder(tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(good()))
    assert load_spec(tmp_path / "model.yaml").source.path == str(tmp_path / "loans.parquet")


def test_a_remote_source_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_text(edited("source.path", "s3://bucket/loans.parquet"))
    assert load_spec(tmp_path / "model.yaml").source.path == "s3://bucket/loans.parquet"


def test_each_file_of_a_mounted_configmap_is_found_once(tmp_path: Path) -> None:
    version = tmp_path / "..2026_11_28_14_33_00.123456789"
    version.mkdir()
    (tmp_path / "..data").symlink_to(version.name)
    for name in ("churn.yaml", "credit.yml", "notes.txt"):
        (version / name).write_text("")
        (tmp_path / name).symlink_to(f"..data/{name}")
    (tmp_path / "team").mkdir()
    (tmp_path / "team" / "fraud.yaml").write_text("")
    alone = tmp_path / "..data" / "churn.yaml"

    found = [path.relative_to(tmp_path).as_posix() for path in spec_files([tmp_path, alone])]

    assert found == ["churn.yaml", "credit.yml", "team/fraud.yaml", "..data/churn.yaml"]


def test_canonical_text_reads_back_equal() -> None:
    spec = parse_spec(yaml.safe_dump(good()))
    assert parse_spec(dump_spec(spec)) == spec
    assert dump_spec(parse_spec(dump_spec(spec))) == dump_spec(spec)


def test_a_spec_cannot_be_changed() -> None:
    spec = parse_spec(yaml.safe_dump(good()))
    with pytest.raises(ValueError, match="frozen"):
        spec.name = "other"


@pytest.mark.parametrize(
    ("positive", "classes"),
    [
        (True, ["false", "true"]),
        (False, ["true", "false"]),
        (1, ["0", "1"]),
        ("late", ["not late", "late"]),
    ],
)
def test_binary_classes_are_named_negative_first(positive: Any, classes: list[str]) -> None:
    assert parse_spec(edited("label.positive", positive)).classes == classes


def test_a_named_negative_class_names_the_answers() -> None:
    label = {"name": "defaulted", "positive": "late", "negative": "paid"}
    assert parse_spec(edited("label", label)).classes == ["paid", "late"]


@given(st.integers(0, 36500 * 86400 * 1000))
def test_durations_survive_writing_and_reading(millis: int) -> None:
    duration = timedelta(milliseconds=millis)
    assert parse_duration(format_duration(duration)) == duration


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from([*ModelSpec.model_fields, "min", "path", "x"]), inner, max_size=6
            )
        ),
        max_leaves=20,
    )
)
def test_rubbish_is_refused_and_never_crashes(data: Any) -> None:
    # Only a whole, valid spec could pass, and these cannot be one: every one lacks a source.
    assert problems(yaml.safe_dump(data))


def test_the_schema_describes_every_field_for_editors() -> None:
    schema = spec_json_schema()
    assert set(schema["properties"]) == set(ModelSpec.model_fields)
    blocks = [schema, *schema["$defs"].values()]
    bare = [
        f"{block['title']}.{name}"
        for block in blocks
        for name, field in block.get("properties", {}).items()
        if "description" not in field and "$ref" not in field
    ]
    assert bare == []

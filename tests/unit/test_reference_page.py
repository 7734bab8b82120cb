"""The reference page tells of everything a person may type or set."""

import re

import pytest
import typer

from heliotrope import vocabulary
from heliotrope.cli import build_app
from heliotrope.cli.reference import reference_page
from heliotrope.spec import spec_json_schema
from heliotrope.telemetry.catalogue import CATALOGUE


@pytest.fixture(scope="module")
def page() -> str:
    return reference_page()


def test_every_command_is_told_of(page: str) -> None:
    commands = typer.main.get_command(build_app()).commands  # type: ignore[attr-defined]
    told = set(re.findall(r"### `heliotrope ([a-z-]+)", page))
    assert told == {name for name, one in commands.items() if not one.hidden}


def test_every_variable_is_told_of_with_its_meaning(page: str) -> None:
    names = {getattr(vocabulary, name) for name in dir(vocabulary) if name.startswith("ENV_")}
    told = dict(re.findall(r"^\| `([A-Z_]+)` \| (.+) \|$", page, re.MULTILINE))
    assert names <= set(told)
    assert all(len(told[name]) > 15 for name in names)


def test_every_key_of_a_spec_is_told_of_with_its_default(page: str) -> None:
    blocks = spec_json_schema()
    for properties in (blocks, *blocks["$defs"].values()):
        for key in properties.get("properties", {}):
            assert f"| `{key}` |" in page
    assert "| `steps` | list of whole number | `[10, 25, 50, 100]` |" in page
    assert "| `delay` | duration | `0s` |" in page or "| `delay` | duration | `0d` |" in page


def test_every_metric_and_exit_code_is_told_of(page: str) -> None:
    assert all(f"| `{metric.name}` |" in page for metric in CATALOGUE)
    codes = page.partition("## Exit codes")[2].partition("## Metrics")[0]
    assert re.findall(r"^\| (\d+) \|", codes, re.MULTILINE) == [*"0123456789", "130"]

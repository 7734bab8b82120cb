"""What is set side by side: settings of the spec, and policies that show what there is to win."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import yaml

from heliotrope.errors import Problem, SpecError, UsageError
from heliotrope.spec import ModelSpec, parse_spec

BLOCKS = ("monitoring", "retraining", "rollout", "gates")
"""Of the spec, what may be set; all else would be another model."""
MOST = 64
"""Settings of one grid."""
WEEKLY = "0 0 * * 1"
"""When the scheduled policy retrains, where the spec names no schedule: each Monday, UTC."""


class PolicyKind(StrEnum):
    """How a policy decides."""

    SETTING = "setting"
    """As the platform does, by a spec."""
    NEVER = "never"
    """The first model stays; alarms ring and nobody acts."""
    SCHEDULED = "scheduled"
    """Trains by the clock, whatever the evidence; gate and rollout as ever."""
    ORACLE = "oracle"
    """Knows when the world changed: trains from then on as labels come, and uses what comes of it
    at once. No policy that has to notice can be quicker by much."""


@dataclass(frozen=True)
class Policy:
    """One column of the comparison."""

    name: str
    kind: PolicyKind
    spec: ModelSpec


def settings(spec: ModelSpec, asked: Sequence[str]) -> list[Policy]:
    """The policies of a grid, in the order of the wishes; the spec as it is without any.

    Args:
        spec: to begin with.
        asked: such as `monitoring.k=1,2,3`; several are crossed. Lists are written [1, 2].

    Raises:
        UsageError: a wish is no setting, twice the same, or the grid is too large.
        SpecError: a value is out of bounds, with field, bound and value.
    """
    wishes = [_wish(spec, text) for text in asked]
    names = [name for name, _ in wishes]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"--set {name} must be given once, values between commas.")
    grid = list(itertools.product(*(values for _, values in wishes)))
    if len(grid) > MOST:
        raise UsageError(f"--set must make {MOST} settings at most. Got {len(grid)}.")
    if not wishes:
        return [Policy("as the spec says", PolicyKind.SETTING, spec)]
    found = []
    for chosen in grid:
        changes = dict(zip(names, chosen, strict=True))
        label = ", ".join(f"{name}={_shown(value)}" for name, value in changes.items())
        found.append(Policy(label, PolicyKind.SETTING, changed(spec, changes)))
    return found


def references(spec: ModelSpec) -> list[Policy]:
    """What settings are compared with."""
    schedule = spec.retraining.schedule or WEEKLY
    idle = changed(spec, {"retraining.on_evidence": False, "retraining.schedule": None})
    by_clock = changed(spec, {"retraining.on_evidence": False, "retraining.schedule": schedule})
    return [
        Policy("never", PolicyKind.NEVER, idle),
        Policy(f"scheduled ({schedule})", PolicyKind.SCHEDULED, by_clock),
        Policy("oracle", PolicyKind.ORACLE, spec),
    ]


def changed(spec: ModelSpec, changes: dict[str, Any]) -> ModelSpec:
    """A spec with other values at dotted paths, read as a spec file is.

    Raises:
        SpecError: with every problem.
    """
    data = json.loads(spec.model_dump_json())
    for path, value in changes.items():
        *blocks, last = path.split(".")
        inner = data
        for block in blocks:
            inner = inner[block]
        inner[last] = value
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    return parse_spec(text, source="--set " + ", ".join(changes) if changes else "spec")


def _wish(spec: ModelSpec, text: str) -> tuple[str, list[Any]]:
    path, equals, values = text.partition("=")
    path = path.strip()
    if not equals or not path or not values.strip():
        raise UsageError(f"--set must be PATH=VALUE, such as monitoring.k=3. Got {text!r}.")
    _require_path(spec, path)
    try:
        # As a list of YAML, so that commas divide but within brackets.
        read = yaml.safe_load(f"[{values}]")
    except yaml.YAMLError:
        raise UsageError(f"--set {path} must have values as in YAML. Got {values!r}.") from None
    if not read:
        raise UsageError(f"--set {path} must have a value. Got {values!r}.")
    return path, read


def _require_path(spec: ModelSpec, path: str) -> None:
    known = [name for block in BLOCKS for name in _paths(getattr(spec, block), block)]
    if path in known:
        return
    block = path.split(".")[0]
    there = [name for name in known if name.startswith(f"{block}.")] or [f"{b}." for b in BLOCKS]
    raise SpecError("--set", [Problem(path, f"be one of {', '.join(there)}", repr(path))])


def _paths(part: Any, head: str) -> list[str]:
    found = []
    for name in type(part).model_fields:
        inner = getattr(part, name)
        path = f"{head}.{name}"
        found += _paths(inner, path) if hasattr(type(inner), "model_fields") else [path]
    return found


def _shown(value: Any) -> str:
    return json.dumps(value) if isinstance(value, list | dict | bool | None) else str(value)

"""Reading a spec: YAML to a frozen ModelSpec, or a SpecError that holds every problem at once."""

import difflib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from heliotrope.errors import Problem, SpecError
from heliotrope.spec.base import show
from heliotrope.spec.model import ModelSpec

MAX_BYTES = 100_000
"""A spec travels as a pipeline parameter, and Linux takes no single argument over 128 KiB."""


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice instead of silently taking the last."""


def _mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: dict[Any, Any] = {}
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise yaml.constructor.ConstructorError(
                None, None, f"a key must be text; got {key!r}", key_node.start_mark
            )
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} is given twice", key_node.start_mark
            )
        seen[key] = True
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def spec_files(paths: Iterable[Path]) -> list[Path]:
    """The files themselves, and the YAML files of folders.

    What is hidden is left out: Kubernetes keeps a mounted ConfigMap's files in a hidden folder and
    links to them, so that each would be found twice.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        below = [*path.rglob("*.yaml"), *path.rglob("*.yml")]
        hidden = (
            any(part.startswith(".") for part in one.relative_to(path).parts) for one in below
        )
        found += sorted(one for one, out in zip(below, hidden, strict=True) if not out)
    return found


def load_spec(path: Path) -> ModelSpec:
    """Read a spec file; a relative local source becomes absolute, seen from the spec's folder.

    Raises:
        SpecError: the file is not there, is not YAML, or has problems.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError(str(path), [Problem("file", "exist", str(path))]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(
            str(path), [Problem("file", "be a readable UTF-8 text file", type(error).__name__)]
        ) from error
    spec = parse_spec(text, source=str(path))
    if spec.source.remote:
        return spec
    absolute = (path.resolve().parent / spec.source.path).resolve()
    moved = spec.source.model_copy(update={"path": str(absolute)})
    return spec.model_copy(update={"source": moved})


def parse_spec(text: str, source: str = "spec") -> ModelSpec:
    """Parse spec YAML.

    Args:
        text: YAML, at most `MAX_BYTES`.
        source: how messages name it.

    Raises:
        SpecError: with every problem.
    """
    if len(text.encode()) > MAX_BYTES:
        size = len(text.encode())
        raise SpecError(source, [Problem("spec", f"be at most {MAX_BYTES:,} bytes", f"{size:,}")])
    if "{{$" in text:
        # KFP replaces its own placeholders inside parameters, so the spec would change on the way.
        raise SpecError(source, [Problem("spec", "not hold {{$, which KFP replaces", "{{$")])
    try:
        data = yaml.load(text, Loader=_StrictLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark else "spec"
        got = getattr(error, "problem", None) or type(error).__name__
        raise SpecError(source, [Problem(where, "be YAML", str(got))]) from error
    if not isinstance(data, dict):
        raise SpecError(source, [Problem("spec", "be a mapping of keys", show(data))])
    try:
        return ModelSpec.model_validate(data)
    except ValidationError as error:
        details = error.errors()
        inner = {
            loc[:end] for loc in (detail["loc"] for detail in details) for end in range(len(loc))
        }
        problems = [
            problem
            for detail in details
            # pydantic counts only the valid items of a list; their own errors say it better.
            if not (detail["type"] == "too_short" and detail["loc"] in inner and detail["input"])
            for problem in _problems(detail)
        ]
        raise SpecError(source, problems) from None


def dump_spec(spec: ModelSpec) -> str:
    """Canonical YAML of a spec: the same spec always gives the same text."""
    data = json.loads(spec.model_dump_json())
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)


def spec_json_schema() -> dict[str, Any]:
    """JSON Schema of a spec, for editors."""
    schema = ModelSpec.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Heliotrope ModelSpec"
    return schema


def _problems(detail: ErrorDetails) -> list[Problem]:
    where = _path(detail["loc"])
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "value_error":
        return [_from_validator(where, line, detail) for line in str(context["error"]).split("\n")]
    if kind == "extra_forbidden":
        known = _known_keys(detail["loc"])
        close = difflib.get_close_matches(str(detail["loc"][-1]), known, n=1, cutoff=0.7)
        hint = f" (did you mean {close[0]}?)" if close else f": {', '.join(known)}"
        return [Problem(where, f"be a known key{hint}", show(detail["input"]))]
    if kind == "missing":
        return [Problem(where, "be given")]
    return [Problem(where, _must(kind, context, detail["msg"]), show(detail["input"]))]


def _from_validator(where: str, line: str, detail: ErrorDetails) -> Problem:
    # Our validators write `field|must|got` relative to the block they check.
    if line.count("|") < 2:
        return Problem(where, line, show(detail["input"]))
    field, must, got = line.split("|", 2)
    joined = f"{where}{field}" if field.startswith("[") or not where else f"{where}.{field}"
    return Problem(joined, must, got)


def _must(kind: str, context: dict[str, Any], message: str) -> str:
    templates = {
        "greater_than": "be greater than {gt}",
        "greater_than_equal": "be {ge} or more",
        "less_than": "be less than {lt}",
        "less_than_equal": "be {le} or less",
        "string_pattern_mismatch": "match {pattern}",
        "string_too_short": "have at least {min_length} character(s)",
        "string_too_long": "have at most {max_length} character(s)",
        "too_short": "have at least {min_length} item(s)",
        "too_long": "have at most {max_length} item(s)",
        "enum": "be one of {expected}",
        "string_type": "be text",
        "float_type": "be a number",
        "float_parsing": "be a number",
        "int_type": "be a whole number",
        "int_parsing": "be a whole number",
        "int_from_float": "be a whole number",
        "bool_type": "be true or false",
        "bool_parsing": "be true or false",
        "tuple_type": "be a list",
        "dict_type": "be a mapping of keys",
        "model_type": "be a mapping of keys",
        "finite_number": "be a finite number",
    }
    template = templates.get(kind)
    return template.format(**context) if template else message[:1].lower() + message[1:]


def _path(location: tuple[str | int, ...]) -> str:
    path = ""
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            path += f".{step}" if path else step
    return path


def _known_keys(location: tuple[str | int, ...]) -> list[str]:
    block: type[BaseModel] | None = ModelSpec
    for step in location[:-1]:
        if isinstance(step, int) or block is None:
            continue
        field = block.model_fields.get(step)
        block = _block_of(field.annotation) if field else None
    return list(block.model_fields) if block else []


def _block_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _block_of(inner)
        if found:
            return found
    return None

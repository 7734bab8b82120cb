"""CRDs as the API server enforces them: their OpenAPI schemas, with unknown fields refused."""

import functools
from typing import Any

import jsonschema
import yaml

from tests.emulated.contracts import CRDS, find_contract

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@functools.cache
def validator(group: str, version: str, plural: str) -> Any | None:
    """A validator of one kind's objects; None where its CRD is not at hand."""
    file = find_contract(f"{CRDS}/{group}_{plural}.yaml")
    if file is None:
        return None
    crd = yaml.load(file.read_text(), Loader=LOADER)
    for served in crd["spec"]["versions"]:
        if served["name"] == version:
            schema = strict(served["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object"}
            return jsonschema.Draft202012Validator(schema)
    return None


def strict(schema: Any) -> Any:
    """OpenAPI as JSON Schema has it; what is not described is refused."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: strict(value) for key, value in schema.items()}
    open_ended = found.pop("x-kubernetes-preserve-unknown-fields", False)
    if isinstance(found.get("properties"), dict) and not open_ended:
        found.setdefault("additionalProperties", False)
    if found.pop("x-kubernetes-int-or-string", False):
        found.pop("type", None)
        found.pop("anyOf", None)
        found["type"] = ["integer", "string"]
    if found.pop("nullable", False) and isinstance(found.get("type"), str):
        found["type"] = [found["type"], "null"]
    return found


def problems(group: str, version: str, plural: str, found: dict[str, Any]) -> list[tuple[str, str]]:
    """Field and what is wrong with it."""
    known = validator(group, version, plural)
    if known is None:
        return []
    return [
        (".".join(str(part) for part in error.absolute_path), error.message[:200])
        for error in known.iter_errors(found)
    ]

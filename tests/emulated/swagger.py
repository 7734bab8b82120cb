"""Holds what goes over a wire against a Swagger 2 file: nothing that it does not know may pass."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator


class ContractError(AssertionError):
    """A request or an answer is not what the API's own description says."""


@dataclass(frozen=True)
class Operation:
    """One verb on one path."""

    name: str
    params: Mapping[str, Mapping[str, Any]]
    """By name; path parameters are left out."""
    body: Mapping[str, Any] | None
    answer: Mapping[str, Any]


class Swagger:
    """An API's description, strict: unknown fields and parameters are refused.

    Args:
        file: the Swagger file.
    """

    def __init__(self, file: Path) -> None:
        self._whole = json.loads(file.read_text())
        self._routes = [
            (method.upper(), re.compile(re.sub(r"\{[^}]+\}", "[^/:]+", path)), self._operation(one))
            for path, methods in self._whole["paths"].items()
            for method, one in methods.items()
        ]
        self._definitions = {
            name: _strict(body) for name, body in self._whole["definitions"].items()
        }

    def find(self, method: str, path: str) -> Operation:
        """The operation of a request."""
        for verb, pattern, operation in self._routes:
            # A literal path comes before one with a hole in it.
            if verb == method and pattern.pattern == path:
                return operation
        for verb, pattern, operation in self._routes:
            if verb == method and pattern.fullmatch(path):
                return operation
        raise ContractError(f"the API has no {method} {path}")

    def check_request(
        self, operation: Operation, query: Mapping[str, str], body: Any, form: Mapping[str, bytes]
    ) -> None:
        """Its parameters are known and of the right kind, and so is its body."""
        for name, value in query.items():
            known = operation.params.get(name)
            if known is None or known["in"] != "query":
                raise ContractError(f"{operation.name} has no query parameter {name}")
            if known["type"] == "integer" and not value.lstrip("-").isdigit():
                raise ContractError(f"{operation.name}: {name} must be an integer, not {value!r}")
        for name, known in operation.params.items():
            given = query if known["in"] == "query" else form
            if known.get("required") and known["in"] != "body" and name not in given:
                raise ContractError(f"{operation.name} must have {name}")
        unknown = form.keys() - operation.params.keys()
        if unknown:
            raise ContractError(f"{operation.name} has no form field {sorted(unknown)}")
        if operation.body is not None:
            self._check(operation.body, body, f"request of {operation.name}")
            self._refuse_outputs(operation.body, body, operation.name)

    def check_answer(self, operation: Operation, status: int, body: Any) -> None:
        """It is what the operation answers, or an error's."""
        schema = operation.answer if status == 200 else {"$ref": "#/definitions/googleRpcStatus"}
        self._check(schema, body, f"answer {status} of {operation.name}")

    def _operation(self, one: Mapping[str, Any]) -> Operation:
        params = {p["name"]: p for p in one.get("parameters", []) if p["in"] != "path"}
        body = next((p["schema"] for p in params.values() if p["in"] == "body"), None)
        return Operation(
            name=one["operationId"],
            params=params,
            body=None if body is None else _strict(body),
            answer=_strict(one["responses"]["200"]["schema"]),
        )

    def _check(self, schema: Mapping[str, Any], value: Any, what: str) -> None:
        whole = {**schema, "definitions": self._definitions}
        found = sorted(Draft202012Validator(whole).iter_errors(value), key=str)
        if found:
            where = "/".join(map(str, found[0].absolute_path))
            raise ContractError(f"{what}, at {where or 'the top'}: {found[0].message}")

    def _refuse_outputs(self, schema: Mapping[str, Any], value: Any, what: str) -> None:
        reference = schema.get("$ref")
        if reference:
            schema = self._whole["definitions"][reference.rpartition("/")[2]]
        for name, part in (value or {}).items():
            told = schema.get("properties", {}).get(name, {})
            if told.get("readOnly") or str(told.get("description", "")).startswith("Output"):
                raise ContractError(f"{what}: {name} is the server's to say")
            _ = part


_SAYS_NOTHING = ("description", "title", "format", "default", "example", "readOnly")


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    # Beside a reference nothing else counts, as in Swagger 2.
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}
    strict = {
        # Names of properties are no keywords: one may well be called `description`.
        key: {name: _strict(one) for name, one in value.items()}
        if key == "properties"
        else _strict(value)
        for key, value in schema.items()
        if key not in _SAYS_NOTHING
    }
    if strict.get("properties") and "additionalProperties" not in strict:
        strict["additionalProperties"] = False
    return strict

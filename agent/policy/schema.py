"""
The shapes of the policy kinds as Kubernetes' CustomResourceDefinitions.

Made of the very types that manifests are read into, so the API server and the agent
refuse the same. What a structural schema cannot say (one of two fields, a network
within another) is checked by the agent alone. Unknown fields: the API server prunes
them, or refuses them under `--validate=strict`; the agent refuses them.

Source: Kubernetes' "Extend the API with CustomResourceDefinitions", structural
schemas.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import copy
from functools import cache
from typing import Any, Final

import msgspec

from agent.policy.kinds import POLICY_KINDS, PolicyKind

Schema = dict[str, Any]

_REF: Final = "#/$defs/"
# What both JSON Schema and a structural schema have; the rest is left out.
_KEPT: Final = (
    "type",
    "enum",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "required",
)
_BOUNDS: Final = ("minimum", "maximum", "maxLength")
_STEP: Final = re.compile(r"\[([^\]]*)\]|([^.\[\]]+)")
_ANYTHING: Final = {"x-kubernetes-preserve-unknown-fields": True}


def definitions() -> dict[str, Schema]:
    """Each kind's CustomResourceDefinition, by a name for its file."""
    return {
        f"{kind.group}_{kind.plural}.yaml": definition(kind) for kind in POLICY_KINDS
    }


def definition(kind: PolicyKind) -> Schema:
    """One kind's CustomResourceDefinition (apiextensions.k8s.io/v1)."""
    names: Schema = {
        "kind": kind.name,
        "listKind": f"{kind.name}List",
        "plural": kind.plural,
        "singular": kind.name.lower(),
    }
    if kind.short_names:
        names["shortNames"] = list(kind.short_names)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{kind.group}"},
        "spec": {
            "group": kind.group,
            "names": names,
            "scope": "Namespaced",
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": version == kind.versions[0],
                    "schema": {"openAPIV3Schema": _object(kind, version)},
                    "subresources": {"status": {}},
                }
                for version in kind.versions
            ],
        },
    }


@cache
def json_schema(kind: Any) -> Mapping[str, Any]:
    """The JSON Schema of a type, with `$defs`; do not change it."""
    return msgspec.json.schema(kind)


def _object(kind: PolicyKind, version: str) -> Schema:
    whole = json_schema(kind.type)
    shape = _resolve(whole, whole)
    spec = structural(shape["properties"]["spec"], whole)
    for name in kind.later.get(version, ()):
        del spec["properties"][name]
        if name in spec.get("required", ()):
            spec["required"].remove(name)
    found: Schema = {"type": "object", "properties": {"spec": spec}}
    if "spec" in shape.get("required", ()):
        found["required"] = ["spec"]
    if "description" in shape:
        found["description"] = shape["description"]
    found["properties"]["status"] = {"type": "object", **_ANYTHING}
    return found


def structural(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> Schema:
    """A JSON Schema with its references put in place, as the API server takes it."""
    schema = _resolve(schema, whole)
    if "anyOf" in schema:
        parts = [one for one in schema["anyOf"] if one != {"type": "null"}]
        if len(parts) == 1:
            return structural(parts[0], whole)
        # An int or a string is the only choice that a structural schema has.
        return {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": True,
            **{name: part[name] for part in parts for name in _BOUNDS if name in part},
        }
    if "type" not in schema and "enum" not in schema:
        return dict(_ANYTHING)
    found: Schema = {name: copy(schema[name]) for name in _KEPT if schema.get(name)}
    found.setdefault("type", "string")
    if "description" in schema:
        found["description"] = schema["description"]
    if "pattern" in schema:
        found["pattern"] = schema["pattern"].replace(r"\Z", "$")
    if "items" in schema:
        found["items"] = structural(schema["items"], whole)
    if "properties" in schema:
        found["properties"] = {
            name: structural(part, whole) for name, part in schema["properties"].items()
        }
    elif isinstance(schema.get("additionalProperties"), dict):
        values = structural(schema["additionalProperties"], whole)
        found["additionalProperties"] = values
    return found


def _resolve(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in schema:
        schema = whole["$defs"][schema["$ref"].removeprefix(_REF)]
    return schema


# What a person may write, for the errors of a validator.


def expected_at(kind: Any, path: str) -> str | None:
    """What may stand at a path such as "spec.rules[0].to", in words, where known."""
    whole = json_schema(kind)
    schema: Mapping[str, Any] = whole
    for step in steps(path):
        found = _step(_resolve(schema, whole), step, whole)
        if found is None:
            return None
        schema = found
    return _in_words(_resolve(schema, whole), whole)


def steps(path: str) -> list[str | int]:
    """A path as its names and numbers; "..." is some key of a mapping."""
    return [
        int(inside) if inside.isdigit() else inside or name
        for inside, name in _STEP.findall(path)
    ]


def _step(
    schema: Mapping[str, Any], step: str | int, whole: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    for part in schema.get("anyOf", [schema]):
        part = _resolve(part, whole)
        if isinstance(step, int) and isinstance(part.get("items"), dict):
            return _resolve(part["items"], whole)
        if isinstance(step, str) and step in part.get("properties", {}):
            return _resolve(part["properties"][step], whole)
        if isinstance(part.get("additionalProperties"), dict):
            return _resolve(part["additionalProperties"], whole)
    return None


def _in_words(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> str | None:
    if "anyOf" in schema:
        parts = [_resolve(one, whole) for one in schema["anyOf"]]
        words = [_in_words(one, whole) for one in parts if one != {"type": "null"}]
        return " or ".join(word for word in words if word) or None
    if "enum" in schema:
        return "one of " + ", ".join(str(value) for value in schema["enum"])
    match schema.get("type"):
        case "integer":
            low, high = schema.get("minimum"), schema.get("maximum")
            between = "" if low is None else f" from {low} to {high}"
            return f"a whole number{between}"
        case "string":
            pattern = schema.get("pattern")
            return "text" if pattern is None else f"text like {_plain(pattern)}"
        case "boolean":
            return "true or false"
        case "array":
            return "a list"
        case "object":
            names = ", ".join(schema.get("properties", ()))
            return f"an object with {names}" if names else "an object"
    return None


def _plain(pattern: str) -> str:
    return pattern.replace(r"\Z", "$")

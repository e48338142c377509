"""Prints the reference of `--json`: what each command prints, as a page or, with --schema, as JSON schemas."""

from __future__ import annotations

import json
import sys
from typing import Any

from multigrain.cli.shapes import SHAPES, schema_of

HEAD = """# What --json prints

Every command that ends with a result prints it as one JSON object on one line with `--json`. Progress goes to stderr,
so stdout holds that line alone. A test holds every such object against the tables below.

- Scores, shares and differences are on a scale of 0 to 1: a difference of 0.033 is 3.3 points.
- Times are in seconds, costs in US dollars. What is not known is `null`.
- A run ends with a `verdict`: `better`, `worse`, `equal`, `undecided`, `base_kept` or `not_tested`, with difference
  and interval. Without `--json` the same stands in one line that begins with `verdict:`.
- New keys may be added; keys are not renamed or removed without a note in the changelog.

The same as JSON schemas (draft 2020-12), by command: [json-schema.json](json-schema.json).
"""


def main() -> None:
    """Print the page, or the schemas."""
    schemas = {command: schema_of(command) for command in SHAPES}
    if "--schema" in sys.argv:
        print(json.dumps(schemas, indent=1, ensure_ascii=False))
        return
    print(HEAD)
    print("## Commands")
    records: dict[str, dict[str, Any]] = {}
    for titles in _alike(schemas):
        schema = schemas[titles[0]]
        records |= schema.get("$defs", {})
        print("\n### " + ", ".join(f"`multigrain {title}`" for title in titles) + "\n")
        _print(schema)
    print("\n## Records")
    for name in sorted(records):
        if "properties" in records[name] or "enum" in records[name]:
            print(f"\n### {name}\n")
            _print(records[name])


def _alike(schemas: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Commands in groups that print the same."""
    groups: dict[str, list[str]] = {}
    for command, schema in schemas.items():
        groups.setdefault(json.dumps(schema, sort_keys=True), []).append(command)
    return list(groups.values())


def _print(schema: dict[str, Any]) -> None:
    if "anyOf" in schema:
        print("One of: " + ", ".join(_kind(each) for each in schema["anyOf"]) + ".")
        return
    if "enum" in schema:
        print("One of: " + ", ".join(f'"{value}"' for value in schema["enum"]) + ".")
        return
    about = " ".join(schema.get("description", "").split())
    if about:
        print(f"{about}\n")
    required = set(schema.get("required", ()))
    print("| key | type | |\n| --- | --- | --- |")
    for key, value in schema["properties"].items():
        words = " ".join(value.get("description", "").split()).replace("|", "\\|")
        there = "" if key in required else "; may be missing"
        print(f"| `{key}` | {_kind(value)}{there} | {words} |")
    more = schema.get("additionalProperties")
    if more not in (None, False):
        kind = "any value" if more is True else _kind(more)
        print(f"| further keys | {kind} | |")


def _kind(value: dict[str, Any]) -> str:
    """A type in a few words, records as links."""
    if "$ref" in value:
        name = value["$ref"].rsplit("/", 1)[-1]
        return "any value" if name == "JsonValue" else f"[{name}](#{name.lower()})"
    if "anyOf" in value:
        return " or ".join(dict.fromkeys(_kind(each) for each in value["anyOf"]))
    if "enum" in value:
        return " or ".join(f'"{each}"' for each in value["enum"])
    if "const" in value:
        return f'"{value["const"]}"'
    kind = value.get("type", "any value")
    if kind == "array":
        return f"list of {_kind(value.get('items') or {})}" if "items" in value else "list"
    if kind == "object":
        inner = value.get("additionalProperties")
        return f"object of {_kind(inner)}" if isinstance(inner, dict) else "object"
    return {"integer": "whole number", "string": "text", "boolean": "true or false"}.get(kind, kind)


if __name__ == "__main__":
    main()

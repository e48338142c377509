"""Holds what `--json` prints against its documented shape."""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator


def shape_name(words: tuple[str, ...], values: dict[str, Any], *, dry_run: bool) -> str:
    """The name of the shape of what a command printed; some commands have two, by what they are given."""
    from multigrain.cli.shapes import SHAPES

    command = " ".join(words)
    if dry_run and f"{command} --dry-run" in SHAPES:
        return f"{command} --dry-run"
    if command == "audit" and "requested" in values:
        return "audit FILE"
    return "evaluate RUN" if command == "evaluate" and "comparisons" not in values else command


def check_shape(name: str, values: dict[str, Any]) -> None:
    """Fail where an object is not of the shape that a command promises."""
    from multigrain.cli.shapes import schema_of

    problems = [
        f"{name}: {'.'.join(map(str, each.path))}: {each.message[:300]}"
        for each in Draft202012Validator(schema_of(name)).iter_errors(values)
    ]
    if problems:
        raise AssertionError("; ".join(problems))

"""Plain words for what is wrong with a config: the value that was expected, or the fault in the YAML."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import yaml

_PLAIN: Final[dict[str, str]] = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "keys with values",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_attributes_type": "a section with keys",
    "model_type": "a section with keys",
    "none_required": "null",
    "path_type": "a path",
    "string_type": "a text (in quotes, where it looks like a number)",
    "tuple_type": "a list",
}
_BOUNDED: Final[dict[str, Callable[[Mapping[str, Any]], str]]] = {
    "greater_than": lambda limits: f"a value above {limits['gt']:g}",
    "greater_than_equal": lambda limits: f"at least {limits['ge']:g}",
    "less_than": lambda limits: f"a value below {limits['lt']:g}",
    "less_than_equal": lambda limits: f"at most {limits['le']:g}",
    "literal_error": lambda limits: str(limits["expected"]).replace("'", ""),
    "too_short": lambda limits: f"at least {limits['min_length']} of them",
}


def expectation(problems: Sequence[Any]) -> str:
    """The values that a setting accepts, in words, e.g. "expected a whole number or auto".

    Args:
        problems: pydantic's, one for each form that the setting may take.
    """
    plain = [_expected(problem) for problem in problems]
    if all(plain):
        return f"expected {' or '.join(dict.fromkeys(plain))}"
    messages = [
        words or problem["msg"].removeprefix("Value error, ") for words, problem in zip(plain, problems, strict=True)
    ]
    return " or ".join(dict.fromkeys(messages))


def _expected(problem: Any) -> str:
    """The value that one problem expects, in plain words; empty where pydantic's own message is used."""
    kind = problem["type"]
    if kind in _BOUNDED:
        return _BOUNDED[kind](problem.get("ctx", {}))
    return _PLAIN.get(kind, "")


def yaml_problem(error: yaml.YAMLError, text: str) -> str:
    """One line that names the fault and its line, counted from 1; the parser's own message takes a dozen lines.

    Args:
        error: the parser's.
        text: what it read.
    """
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    if indentation := _indentation(text.splitlines(), mark.line):
        return indentation
    fault = ", ".join(str(part) for part in (getattr(error, "context", None), getattr(error, "problem", None)) if part)
    return f"line {mark.line + 1}, column {mark.column + 1}: {fault}; look at the indentation, colons and quotes there"


def _indentation(lines: Sequence[str], number: int) -> str:
    """The fault in words where a line is indented wrongly; empty where indentation is not the cause."""
    if number >= len(lines):
        return ""
    if re.match(r" *\t", lines[number]):
        return f"line {number + 1} is indented with a tab: YAML takes spaces only"
    before = [line for line in lines[:number] if line.strip() and not line.lstrip().startswith("#")]
    if not before or not re.match(r" *(?:- )?[\w'\"]+ *:", lines[number]):
        return ""
    here, last = _spaces(lines[number]), _spaces(before[-1])
    opens = re.search(r"[:|>-]\s*(?:#.*)?$", before[-1]) is not None
    deeper = here > last and not opens
    # A line that ends a section stands in the column of a line above it.
    astray = here < last and here not in {_spaces(line) for line in before}
    if not deeper and not astray:
        return ""
    spaces = f"{here} space{'' if here == 1 else 's'}"
    return (
        f"line {number + 1} is indented by {spaces}, the line before by {last}: keys of one section begin in the same "
        "column"
    )


def _spaces(line: str) -> int:
    return len(line) - len(line.lstrip(" "))

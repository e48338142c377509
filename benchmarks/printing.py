"""How benchmarks say what they measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def print_values(values: Mapping[str, Any], *, as_json: bool) -> None:
    """Print figures by name, one a line, or all of them as one JSON object."""
    if as_json:
        print(json.dumps(dict(values)))
        return
    width = max(map(len, values), default=0)
    for name, value in values.items():
        print(f"{name:>{width}}  {value}")

"""What a set to mix in is known by, without opening it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from multigrain.config import MixSourceConfig


def mix_fingerprint(config: MixSourceConfig) -> list[Any]:
    """Changes when the files behind a set do; reads no content. A hub data set is its name."""
    path = Path(config.path).expanduser()
    files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    status = [(each.name, each.stat().st_size, each.stat().st_mtime_ns) for each in files if each.exists()]
    return [config.model_dump(mode="json", exclude={"path"}), status or config.path]

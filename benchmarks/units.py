"""Measurements in units, each written to a file as soon as it is done, so that a second start goes on."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from multigrain.display.text import one_line
from multigrain.evaluation.settings import CompareSettings
from multigrain.evaluation.significance import compare_crossed

DATA_SEED: Final = 13


class MissingError(Exception):
    """A part cannot run here; the text says what it lacks."""


@dataclass(frozen=True)
class Unit:
    """What is measured, written and left out of a second start as one."""

    part: str
    arm: str
    seed: int
    run: Callable[[], dict[str, Any]]


class Results:
    """The file of finished units; a line that a kill cut short is taken off.

    Args:
        path: of JSON lines.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        written = path.read_bytes() if path.exists() else b""
        whole = written[: written.rfind(b"\n") + 1]
        if whole != written:
            with path.open("r+b") as stream:
                stream.truncate(len(whole))
        self.lines: list[dict[str, Any]] = [json.loads(line) for line in whole.decode().splitlines()]

    def add(self, line: dict[str, Any]) -> None:
        """Write a line, to the disk before this returns; an earlier one of the same unit no longer counts."""
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        self.lines.append(line)

    def latest(self, *, stand_ins: bool) -> dict[tuple[str, str, int], dict[str, Any]]:
        """The last line of each unit, of stand-ins or of the real thing."""
        kept = (line for line in self.lines if line["stand_ins"] == stand_ins)
        return {(line["part"], line["arm"], line["seed"]): line for line in kept}


def reason(error: BaseException) -> str:
    """An error in a line."""
    return one_line(f"{type(error).__name__}: {error}", 300)


def told(line: dict[str, Any]) -> str:
    """A unit's line for people."""
    name = f"{line['part']} {line['arm']} seed {line['seed']}"
    if "failed" in line:
        return f"{name}: failed: {line['failed']}"
    shown = ("ratio", "before", "after", "low", "high", "rows_a_second", "usable", "peak_memory_mib", "took_seconds")
    return f"{name}: " + ", ".join(f"{key} {line[key]}" for key in shown if key in line)


def means(lines: Iterable[dict[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Of each arm of the trained parts, the mean after training, and its difference from the part's first arm.

    Args:
        lines: of units, each once; of a data set's arms the first is that set's own.

    Returns:
        By part and arm: after, seeds (those that both arms have) and, but for a first arm, difference, low and high.
    """
    arms: dict[tuple[str, str], dict[str, dict[int, dict[str, Any]]]] = {}
    for line in lines:
        if "by_query" in line:
            of = (line["part"], line["arm"].rpartition("/")[0])
            arms.setdefault(of, {}).setdefault(line["arm"], {})[line["seed"]] = line
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for (part, _), by_arm in arms.items():
        first = next(iter(by_arm.values()))
        for arm, runs in by_arm.items():
            seeds = sorted(runs.keys() & first.keys())
            found.setdefault(part, {})[arm] = row = {
                "after": round(statistics.fmean(line["after"] for line in runs.values()), 4),
                "seeds": len(runs),
            }
            if runs is not first and seeds:
                base, other = (np.array([each[seed]["by_query"] for seed in seeds]) for each in (first, runs))
                delta = compare_crossed(base, other, CompareSettings(seed=DATA_SEED))
                row |= {key: round(getattr(delta, name), 4) for key, name in
                        (("difference", "mean"), ("low", "low"), ("high", "high"))}  # fmt: skip
    return found

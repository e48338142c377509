"""Draw docs/guides/curricula.svg: which levels each schedule trains on over the run.

    python benchmarks/draw_curricula.py

Nothing is drawn by hand: every bar is what the schedule says of every step.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args
from xml.sax.saxutils import escape

from multigrain.config import PhaseConfig, ScheduleName
from multigrain.curriculum.schedule import level_schedule, step_ranges

STEPS = 40
WIDTH, ROW, LEFT, GAP = 480, 34, 130, 8
COLOURS = ("#cfe3f5", "#86b6e0", "#3f7fbf", "#17406f")
CUSTOM = [
    PhaseConfig(until=0.25, levels={1: 1}),
    PhaseConfig(until=0.6, levels={1: 0.3, 2: 0.7}),
    PhaseConfig(until=1, levels={3: 0.5, 4: 0.5}),
]
OUT = Path(__file__).resolve().parent.parent / "docs" / "guides" / "curricula.svg"


def draw() -> str:
    """The figure, as SVG."""
    names = [
        name
        for name in get_args(ScheduleName)
        if name not in ("listwise", "in-batch", "fixed-1", "fixed-2", "fixed-4")
    ]
    height = len(names) * (ROW + GAP) + 46
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 10} {height}" font-family="sans-serif" '
        'font-size="13" role="img" aria-label="Share of each level over the steps, by schedule">',
        f'<rect width="{LEFT + WIDTH + 10}" height="{height}" fill="white"/>',
    ]
    for number, name in enumerate(names):
        top = number * (ROW + GAP) + 6
        parts.append(f'<text x="{LEFT - 10}" y="{top + ROW / 2 + 4}" text-anchor="end">{escape(name)}</text>')
        parts.extend(_bars(name, top))
    top = len(names) * (ROW + GAP) + 18
    parts.append(f'<text x="{LEFT}" y="{top + 11}">steps →</text>')
    for level, colour in enumerate(COLOURS, start=1):
        left = LEFT + 70 + 95 * level - 95
        parts.append(f'<rect x="{left}" y="{top}" width="14" height="14" fill="{colour}"/>')
        parts.append(f'<text x="{left + 19}" y="{top + 12}">level {level}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bars(name: ScheduleName, top: float) -> list[str]:
    """One bar for each range of steps and level, as high as the level's share."""
    bars = []
    for part in step_ranges(level_schedule(name, STEPS, seed=13, phases=CUSTOM), STEPS):
        left, width = LEFT + WIDTH * part.start / STEPS, WIDTH * (part.stop - part.start) / STEPS
        below = 0.0
        for weight, colour in zip(part.weights, COLOURS, strict=True):
            if weight:
                y, high = top + ROW * (1 - below - weight), ROW * weight
                bars.append(
                    f'<rect x="{left:.1f}" y="{y:.1f}" width="{width:.1f}" height="{high:.1f}" fill="{colour}"/>'
                )
                below += weight
    return bars


if __name__ == "__main__":
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(draw(), encoding="utf-8")
    print(OUT)
    sys.exit(0)

"""Draw docs/gains.svg: what tuning gained on each measured set, with its interval.

    python benchmarks/draw_gains.py

The figures are those that `multigrain plan` goes by, which a test holds against docs/results.md.
"""

from __future__ import annotations

from pathlib import Path

from multigrain.report.charts import Axis
from multigrain.tools.expected_gain import SMALL_WRITER

LEFT, WIDTH, ROW, RIGHT = 170, 380, 30, 130
AXIS = Axis(-4, 7)
OUT = Path(__file__).resolve().parent.parent / "docs" / "gains.svg"


def draw() -> str:
    """The figure, as SVG."""
    width, height = LEFT + WIDTH + RIGHT, ROW * len(SMALL_WRITER) + 60
    bottom = height - 48
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="13" role="img" aria-label="Gain over the base model on five sets, with 95% intervals">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for value in AXIS.ticks(6):
        x = _x(value)
        dash = "" if value == 0 else ' stroke-dasharray="2 4"'
        parts.append(f'<line x1="{x}" x2="{x}" y1="6" y2="{bottom}" stroke="#999"{dash}/>')
        tick = f"{value:+.0f}" if value else "0"
        parts.append(f'<text x="{x}" y="{bottom + 16}" text-anchor="middle" fill="#444">{tick}</text>')
    for number, measured in enumerate(SMALL_WRITER):
        y = 6 + ROW * number + ROW / 2
        colour = "#1a7f5a" if measured.low > 0 else "#777"
        parts += [
            f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end">{measured.name}</text>',
            f'<line x1="{_x(measured.low)}" x2="{_x(measured.high)}" y1="{y}" y2="{y}" stroke="{colour}" '
            'stroke-width="3"/>',
            f'<circle cx="{_x(measured.gain)}" cy="{y}" r="5" fill="{colour}"/>',
            f'<text x="{LEFT + WIDTH + 12}" y="{y + 4}">{f"{measured.gain:+.1f}" if measured.gain else "0.0"} '
            f"[{measured.low:.1f}, {measured.high:.1f}]</text>",
        ]
    words = "points of nDCG@10 over the base model, with 95% intervals"
    parts.append(f'<text x="{LEFT}" y="{bottom + 38}" fill="#444">{words}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _x(value: float) -> float:
    return round(LEFT + WIDTH * AXIS.at(value) / 100, 1)


if __name__ == "__main__":
    OUT.write_text(draw(), encoding="utf-8")
    print(OUT)

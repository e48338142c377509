"""Texts that runtimes are compared on: several scripts, lengths from one letter to more than a model reads."""

from __future__ import annotations

from typing import Final

from multigrain.export.parity import PARITY_TEXTS

_SENTENCES: Final = (
    "The harbour master writes the tide table by hand.",
    "Größere Straßen führen über Köln nach Zürich.",
    "L'été dernier, nous avons goûté un gâteau très sucré.",
    "Быстрая коричневая лиса прыгает через ленивую собаку.",
    "数据库在每天凌晨三点备份一次。",
    "明日は東京で会議があります。",
    "고양이가 창가에서 잠을 잔다.",
    "القطط تنام في الشمس كل صباح.",
    "हर सुबह चाय की दुकान खुलती है।",
    "for key, value in sorted(table.items()): print(f'{key}={value!r}')",
)
_LENGTHS: Final = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1597, 2584)


def many_texts() -> list[str]:
    """At least 200 different texts."""
    parts = [(sentence + " ") * 400 for sentence in _SENTENCES]
    cut = [part[:length] for part in parts for length in _LENGTHS]
    numbered = [f"{sentence} {number}" for number, sentence in enumerate(_SENTENCES * 4)]
    return list(dict.fromkeys((*PARITY_TEXTS, *cut, *numbered)))

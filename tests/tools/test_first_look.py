"""What the first look at documents suggests: lengths that fit, and the language where it is clear."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multigrain.config import DocumentsConfig
from multigrain.config.file import parse_config
from multigrain.tools.first_look import look_at_first_documents, suggest

ENGLISH = "The log files of a server are rotated every week, and the old ones are kept for a month. "
WORDS = 19  # of them in it
GERMAN = "Die Protokolle eines Servers werden jede Woche gewechselt, und die alten bleiben einen Monat lang liegen. "
FRENCH = "Les journaux du serveur sont changés chaque semaine, et les anciens sont gardés pendant un mois entier. "


@settings(deadline=None)
@given(st.lists(st.integers(min_value=1, max_value=60), min_size=1, max_size=50))
def test_what_is_suggested_is_a_config_and_reads_nearly_all_texts(repeats: list[int]) -> None:
    made = suggest([ENGLISH * count for count in repeats])

    config = parse_config(made.settings)
    assert set(made.reasons) == {f"{name}.{key}" for name, values in made.settings.items() for key in values}
    long = [count for count in repeats if count * WORDS * 1.4 > 256]
    assert (config.documents.chunk_size is not None) == (len(long) > len(repeats) / 10)
    assert config.training.max_seq_length in (64, 128, 256)
    if config.documents.chunk_size is None:
        fit = sum(count * WORDS * 1.4 <= config.training.max_seq_length + 1 for count in repeats)
        assert fit >= 0.85 * len(repeats) - 1
    assert "languages" not in made.settings.get("synthesis", {})


def test_documents_in_one_other_language_get_queries_in_it() -> None:
    made = suggest([GERMAN * 2] * 20)

    assert made.settings["synthesis"] == {"languages": {"German": 1.0}}
    assert made.reasons["synthesis.languages"] == "20 of 20 documents are in German."
    assert "--recipe multilingual" in made.notes[0]
    assert suggest([GERMAN * 2] * 20, base_model="intfloat/multilingual-e5-small").notes == ()


def test_a_mix_of_languages_is_said_and_left_to_each_document() -> None:
    made = suggest([GERMAN * 2, FRENCH * 2, ENGLISH * 2] * 5)

    assert "languages" not in made.settings.get("synthesis", {})
    assert "several languages (" in made.notes[0]


@pytest.mark.parametrize("present", [False, True])
def test_at_most_fifty_documents_are_looked_at(tmp_path: Path, present: bool) -> None:
    path = tmp_path / "rows.jsonl"
    if present:
        texts = [ENGLISH] * 50 + [GERMAN * 40] * 500
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    made = look_at_first_documents(DocumentsConfig(path=path))

    assert made.settings == ({"training": {"max_seq_length": 64}} if present else {})

"""Queries that need two documents: which second one they are given, and the rows that come of them."""

from __future__ import annotations

from multigrain.config import SynthesisConfig
from multigrain.records import Document
from multigrain.synthesis.partners import MULTI_PASSAGE, Partners, rows_of
from multigrain.synthesis.strategies.writer import DEFAULT_WRITER, written_row
from multigrain.synthesis.units import writing_units

CHUNKS = [Document(id=f"manual#{number}", text=f"Chapter {number} on boilers.", group=0) for number in (1, 2, 3)]
OTHERS = [
    Document(id="valve", text="Thermostatic valve of a radiator, and its key.", group=3),
    Document(id="valve-copy", text="Thermostatic valve of a radiator, and the key.", group=3),
    Document(id="key", text="The radiator key opens the vent of any radiator.", group=5),
    Document(id="alone", text="Zebras graze.", group=6),
]


def test_a_chunk_goes_with_the_next_one_and_the_last_with_the_one_before() -> None:
    partners = Partners([*CHUNKS, *OTHERS])

    assert [partners.of(place) for place in range(3)] == [CHUNKS[1], CHUNKS[2], CHUNKS[1]]


def test_a_document_goes_with_the_nearest_in_words_that_does_not_repeat_it() -> None:
    partners = Partners(OTHERS)

    assert partners.of(0) == OTHERS[2]
    assert partners.of(2) in OTHERS[:2]
    assert partners.of(3) is None


def test_both_documents_are_shown_and_both_are_positives() -> None:
    config = SynthesisConfig(query_types={MULTI_PASSAGE: 1})
    units = {unit.document.id: unit for unit in writing_units(OTHERS, config, seed=3)}

    unit = units["valve"]
    prompt = DEFAULT_WRITER.request(unit, "query", shows="query").messages[-1].content
    assert OTHERS[0].text in prompt
    assert OTHERS[2].text in prompt
    first, second = rows_of(unit, written_row("mined", unit, query="which key fits the valve"))
    assert (first.document_id, second.document_id) == ("valve", "key")
    assert (first.positive, second.positive) == (OTHERS[0].text, OTHERS[2].text)
    assert second.relevant_ids == ("valve",)
    assert unit.relevant_ids == ("key",)
    assert first.id != second.id


def test_a_document_without_a_partner_is_asked_for_an_ordinary_query() -> None:
    config = SynthesisConfig(query_types={MULTI_PASSAGE: 1})
    (unit,) = (unit for unit in writing_units(OTHERS, config, seed=3) if unit.document.id == "alone")

    assert (unit.other, unit.style.query_type) == (None, "search")
    assert rows_of(unit, written_row("mined", unit, query="grazing")) == [written_row("mined", unit, query="grazing")]

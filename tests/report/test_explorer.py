from __future__ import annotations

import base64
import dataclasses
import gzip
import json

import pytest

from multigrain.records import Origin
from multigrain.report import load_report_data
from multigrain.report.explorer import MAX_ROWS, pack_rows, shown_rows


@pytest.fixture(scope="module")
def rows(example):
    return load_report_data(example).rows


def _unpack(packed):
    return json.loads(gzip.decompress(base64.b64decode(packed, validate=True)))


def test_unpacking_gives_back_every_row(rows):
    unpacked = _unpack(pack_rows(rows))
    columns, texts = unpacked["rows"], unpacked["texts"]
    assert len(texts) == len(set(texts))
    for i, row in enumerate(rows):
        assert columns["id"][i] == row.id
        assert columns["query"][i] == row.query
        assert texts[columns["positive"][i]] == row.positive[:2000]
        assert [texts[j] for j in columns["negatives"][i]] == [each.text[:2000] for each in row.negatives]
        assert columns["held"][i] == row.written_order_held
        similarity = [row.positive_similarity, *(each.similarity for each in row.negatives)]
        assert columns["similarity"][i] == pytest.approx([1000 * value for value in similarity], abs=0.51)
        for asked, negative in zip(columns["asked"][i], row.negatives, strict=True):
            assert (asked > 0) == (negative.origin is Origin.WRITTEN)
            assert asked == (negative.written_level or 0)


def test_equal_rows_pack_to_an_equal_string(rows):
    assert pack_rows(rows) == pack_rows(rows)


def test_long_texts_are_cut_and_their_rest_is_counted(rows):
    long = dataclasses.replace(rows[0], positive="é" * 5000)
    unpacked = _unpack(pack_rows([long]))
    place = unpacked["rows"]["positive"][0]
    assert len(unpacked["texts"][place]) + unpacked["cut"][str(place)] == 5000


def test_the_more_texts_the_shorter_each_so_that_the_page_stays_bounded(rows):
    many = [dataclasses.replace(rows[0], positive=f"{i} " + "word " * 300) for i in range(100)]

    def lengths(characters):
        unpacked = _unpack(pack_rows(many, characters=characters))
        return [len(unpacked["texts"][place]) for place in unpacked["rows"]["positive"]]

    assert sum(lengths(60_000)) <= 60_000
    assert min(lengths(60_000)) > 500
    assert set(lengths(0)) == {240}
    assert lengths(10_000_000) == [len(row.positive) for row in many]


def test_of_too_many_rows_an_even_spread_is_shown(rows):
    assert shown_rows(rows) is rows
    numbered = range(3 * MAX_ROWS)
    shown = shown_rows(numbered)
    assert len(shown) == MAX_ROWS
    assert list(shown) == [3 * i + 1 for i in range(MAX_ROWS)]


def test_control_characters_become_visible_but_ids_stay_as_they_are(rows):
    unpacked = _unpack(pack_rows([dataclasses.replace(rows[0], id="a\x00b", query="a\x00b", positive="\x1b[31m")]))
    assert unpacked["rows"]["query"] == ["a\u2400b"]
    assert unpacked["rows"]["id"] == ["a\x00b"]
    assert "\u241b[31m" in unpacked["texts"]

"""CSV and TSV: every line of a TSV file is a row, whatever quotes it holds; CSV that cannot be read is refused."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multigrain.errors import SourceError
from multigrain.storage.separated import read_separated

_CELL = st.text(st.sampled_from('ab" ,;'), max_size=6)


def read(path: Path, text: str, usual: str = "\t") -> list[tuple[int, dict[str, str | None]]]:
    return [(number, values) for _, number, values in read_places(path, text, usual)]


def read_places(path: Path, text: str, usual: str) -> list[tuple[str, int, dict[str, str | None]]]:
    path.write_bytes(text.encode())
    return list(read_separated(path, usual))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(_CELL, _CELL), max_size=6))
def test_every_line_of_a_tsv_file_is_a_row(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, str]]
) -> None:
    path = tmp_path_factory.mktemp("tsv") / "a.tsv"

    rows = read(path, "q\tp\n" + "".join(f"{query}\t{positive}\n" for query, positive in cells))

    assert [number for number, _ in rows] == list(range(2, len(cells) + 2))
    for (_, row), written in zip(rows, cells, strict=True):
        # A cell is as it stands, or it was quoted from end to end.
        assert all(
            value == cell or f'"{value.replace(chr(34), chr(34) * 2)}"' == cell
            for value, cell in zip(row.values(), written, strict=True)
            if value is not None
        )


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.text("ab ,\n", max_size=6), st.text("ab\n", max_size=6)), max_size=6),
    st.sampled_from([",", "\t"]),
)
def test_a_place_has_the_row_that_a_spreadsheet_shows_where_it_is_not_the_line(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, str]], separator: str
) -> None:
    path = tmp_path_factory.mktemp("places") / "a"
    stream = StringIO()
    csv.writer(stream, delimiter=separator, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([("q", "p"), *cells])

    places = {
        f"{before}{number}": values for before, number, values in read_places(path, stream.getvalue(), separator)
    }

    line = 2
    for row, (query, positive) in enumerate(cells, start=2):
        place = f"{path}:{line}" if line == row else f"{path}:row {row}, line {line}"
        assert places.pop(place) == {"q": query, "p": positive}
        line += 1 + query.count("\n") + positive.count("\n")
    assert not places


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('"open\tp1\nb\tp2\n', [(2, '"open', "p1"), (3, "b", "p2")]),
        ('"open\tp1\nb\tcloses"\n', [(2, '"open', "p1"), (3, "b", 'closes"')]),
        ('"one\tp1\n"two\tp2\n', [(2, '"one', "p1"), (3, '"two', "p2")]),
        ('"a ""b"""\t"p"\n', [(2, 'a "b"', "p")]),
        ('"tab\there"\tp\nb\tp2\n', [(2, "tab\there", "p"), (3, "b", "p2")]),
        ('a\t"two\n\nlines"\nb\tp2\n', [(2, "a", "two\n\nlines"), (5, "b", "p2")]),
        ('5" pipe\t"x" y\n\nb\r\tp\r\n', [(2, '5" pipe', '"x" y'), (4, "b\r", "p")]),
        ('"short\n"b\tp\n', [(2, '"short', None), (3, '"b', "p")]),
    ],
)
def test_a_quote_spans_tabs_and_lines_only_where_lines_do_not_fit_the_header(
    tmp_path: Path, text: str, rows: list[tuple[int, str, str | None]]
) -> None:
    assert [(number, *row.values()) for number, row in read(tmp_path / "a.tsv", f"q\tp\n{text}")] == rows


def test_a_long_file_with_stray_quotes_is_read_in_one_go(tmp_path: Path) -> None:
    lines = "".join(f'"stray {number}\tpassage {number}\n' for number in range(20_000))

    assert len(read(tmp_path / "a.tsv", f"q\tp\n{lines}")) == 20_000


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("usual", [",", "\t"])
def test_the_separator_is_the_one_that_the_header_has(tmp_path: Path, separator: str, usual: str) -> None:
    written = StringIO()
    writer = csv.writer(written, delimiter=separator)
    rows = [["why, and how; or | not", "thus"], ["b", ""]]
    writer.writerows([["anchor", "positive"], *rows])

    assert [list(row.values()) for _, row in read(tmp_path / "a", written.getvalue(), usual)] == rows


def test_rows_of_csv_are_known_by_the_line_that_they_begin_in(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.csv", '\n\na,b\n"one\ntwo",x\n\nthree\n', ",")

    assert rows == [(4, {"a": "one\ntwo", "b": "x"}), (7, {"a": "three", "b": None})]


def test_a_quote_that_is_never_closed_is_refused_with_the_line_that_it_opens_in(tmp_path: Path) -> None:
    good = "".join(f"{number},p\n" for number in range(50))

    with pytest.raises(SourceError, match=r"a\.csv:52: not CSV \(a quote opens in this row and is never closed\)"):
        read(tmp_path / "a.csv", f'q,p\n{good}"x,p\n{good}', ",")


@pytest.mark.parametrize(("separator", "usual"), [(";", ","), (",", ","), ("|", "\t")])
def test_a_first_line_may_tell_the_separator(tmp_path: Path, separator: str, usual: str) -> None:
    text = f"sep={separator}\r\nquery{separator}positive\r\nq{separator}a passage\r\n"
    assert read(tmp_path / "a", text, usual) == [(3, {"query": "q", "positive": "a passage"})]


def test_spaces_after_commas_are_no_part_of_cells_where_the_header_has_them(tmp_path: Path) -> None:
    spaced = read(tmp_path / "a.csv", 'query, positive, more\nq, "a, b", c\n', ",")
    plain = read(tmp_path / "b.csv", "query,positive\nq, b\n", ",")

    assert [row for _, row in spaced] == [{"query": "q", "positive": "a, b", "more": "c"}]
    assert [row for _, row in plain] == [{"query": "q", "positive": " b"}]


@pytest.mark.parametrize("usual", [",", "\t"])
@pytest.mark.parametrize("mark", ["NULL", r"\N", "NaN", "nan", "<NA>"])
def test_marks_of_nothing_are_nothing(tmp_path: Path, usual: str, mark: str) -> None:
    rows = read(tmp_path / "a.csv", f"query{usual}positive\nq{usual}{mark}\nr{usual}{mark} pointer\n", usual)

    assert [row["positive"] for _, row in rows] == [None, f"{mark} pointer"]


@pytest.mark.parametrize("usual", [",", "\t"])
def test_empty_cells_behind_the_columns_are_no_columns(tmp_path: Path, usual: str) -> None:
    lines = [["id", "text", "", ""], ["1", "a", "", ""], ["2", "", ""], ["3", "c"]]
    text = "".join(usual.join(line) + "\r\n" for line in lines)

    assert [row for _, row in read(tmp_path / "a", text, usual)] == [
        {"id": "1", "text": "a"},
        {"id": "2", "text": ""},
        {"id": "3", "text": "c"},
    ]
    with pytest.raises(SourceError, match="more cells than columns"):
        read(tmp_path / "a", text + usual.join(("4", "d", "", "e")) + "\n", usual)

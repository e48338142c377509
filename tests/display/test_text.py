from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multigrain.display.text import first_line, one_line, unbroken, visible


def test_no_text_can_steer_a_terminal() -> None:
    assert one_line("a\x1b[2Jb\u202ec\r\nd\x07") == "a [2Jb c d"
    assert one_line("abcdef", 4) == "abc…"


@given(st.text(), st.integers(1, 40))
def test_any_text_becomes_one_printable_line_within_its_limit(text: str, limit: int) -> None:
    line = one_line(text, limit)

    assert len(line) <= limit
    assert not any(unicodedata.category(character)[0] == "C" for character in line)
    assert len(line.splitlines()) <= 1
    assert one_line(line, limit) == line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("\n  the file\x1b[1m ends\nhere"), "the file [1m ends"),
        (KeyError(), "KeyError"),
        (OSError(" "), "OSError"),
    ],
)
def test_an_error_is_told_by_its_first_line_or_its_name(error: Exception, line: str) -> None:
    assert first_line(error) == line


def test_a_page_shows_control_characters_and_breaks_no_figure() -> None:
    assert visible("a\x00b\x7f\n") == "a␀b␡\n"
    assert unbroken("3 h 5 min").split(" ") == ["3\u00a0h\u00a05\u00a0min"]

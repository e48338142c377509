"""What tags say and text would lose, through the real markitdown."""

from __future__ import annotations

from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from hypothesis import given
from hypothesis import strategies as st

from multigrain.sources.folder import read_folder
from multigrain.sources.html import say_in_words, take_page_heading

WORDS = st.text("abcdef", min_size=1, max_size=4)


@st.composite
def grids(draw: st.DrawFn) -> tuple[list[list[str]], str]:
    """A table as a reader sees it, and as HTML in which cells of one column are merged downwards."""
    height, width = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    grid = [[""] * width for _ in range(height)]
    cells: list[list[str]] = [[] for _ in range(height)]
    for column in range(width):
        row = 0
        while row < height:
            span = draw(st.integers(1, height - row))
            word = draw(WORDS)
            # A span may also reach below the table, or be 0: to its end.
            said = draw(st.sampled_from([0, span + 3])) if row + span == height else span
            cells[row].append(f'<td rowspan="{said}">{word}</td>')
            for each in range(row, row + span):
                grid[each][column] = word
            row += span
    rows = "".join(f"<tr>{''.join(row)}</tr>" for row in cells)
    return grid, f"<table>{rows}</table>"


@given(grids())
def test_every_row_holds_what_a_reader_sees_in_it(drawn: tuple[list[list[str]], str]) -> None:
    grid, html = drawn
    soup = BeautifulSoup(html, "html.parser")
    say_in_words(soup)
    assert [[cell.get_text() for cell in row("td")] for row in soup("tr")] == grid


@pytest.mark.parametrize(
    ("html", "said"),
    [
        ("10<sup>6</sup> rows", "10^6 rows"),
        ("10<sup>-3</sup> m", "10^-3 m"),
        ("e<sup>x + 1</sup>", "e^(x + 1)"),
        ("E = mc<sup>2</sup>", "E = mc^2"),
        ("10<sup>n</sup>", "10^n"),
        ("the 21<sup>st</sup> and 4<sup>th</sup>", "the 21st and 4th"),
        ("Valve<sup>TM</sup>", "ValveTM"),
        ('in 2023<sup><a href="#fn1">1</a></sup>', "in 2023[1]"),
        ("in 2023<sup>[4]</sup>", "in 2023[4]"),
        ('in 2023<a href="#fn1"><sup>1</sup></a>', "in 2023[1]"),
        ("le XIX<sup>e</sup>, n<sup>o</sup> 5, la 2<sup>nde</sup>", "le XIXe, no 5, la 2nde"),
        ("Price<sup>*</sup>", "Price*"),
        ("H<sub>2</sub>O", "H2O"),
        ("a<sup> </sup>b", "ab"),
        ("<p hidden>the answer that unfolds</p>", "the answer that unfolds"),
    ],
)
def test_superscripts_keep_what_they_say(html: str, said: str) -> None:
    soup = BeautifulSoup(html, "html.parser")
    say_in_words(soup)
    assert soup.get_text() == said


def test_cells_that_span_columns_too_and_tables_in_cells_stay_in_their_places() -> None:
    soup = BeautifulSoup(
        "<table><tr><td rowspan=2 colspan=2>a</td><td>b</td></tr><tr><td>c</td></tr>"
        "<tr><td>d</td><td><table><tr><td rowspan='x'>e</td></tr></table></td><td rowspan=9>f</td></tr></table>",
        "html.parser",
    )
    say_in_words(soup)
    rows = [row for row in soup.table("tr") if row.find_parent("table") is soup.table]
    assert [[cell.get_text() for cell in row(["td"], recursive=False)] for row in rows] == [
        ["a", "b"],
        ["a", "c"],
        ["d", "e", "f"],
    ]


def test_a_long_cell_stands_once_and_keeps_its_place() -> None:
    """Pages are laid out by tables, too."""
    long = "word " * 100
    soup = BeautifulSoup(
        f"<table><tr><td rowspan=3>{long}</td><td>a</td></tr><tr><td>b</td></tr><tr></tr></table>", "html.parser"
    )
    say_in_words(soup)
    assert [[cell.get_text() for cell in row("td")] for row in soup("tr")] == [[long, "a"], ["", "b"], [""]]


def test_a_page_says_its_powers_and_its_rows(tmp_path: Path) -> None:
    page = (
        "<html><head><meta charset='iso-8859-1'><title>Caf\u00e9</title></head><body><p>Up to 10<sup>6</sup> rows, "
        "since 2023<sup><a href='#n'>1</a></sup>.</p><table><tr><th>Plan</th><th>Month</th><th>Price</th></tr>"
        "<tr><td rowspan='2'>Basic</td><td>May</td><td>5</td></tr><tr><td>June</td><td>6</td></tr></table></body>"
    )
    (tmp_path / "page.html").write_text(page, encoding="iso-8859-1")

    (document,), _ = read_folder(tmp_path, unreadable="refuse")

    assert document.title == "Caf\u00e9"
    assert "Up to 10^6 rows, since 2023[1]." in document.text
    assert "| Basic | May | 5 |\n| Basic | June | 6 |" in document.text


def read_pages(folder: Path, *pages: str) -> list[tuple[str | None, str]]:
    for number, page in enumerate(pages):
        (folder / f"{number:02}.html").write_text(page, encoding="utf-8")
    documents, _ = read_folder(folder, unreadable="refuse")
    return [(document.title, document.text) for document in documents]


SHOWN = "Set max_seq_length to 2*3*4 in my_config_file.yaml; see foo_bar(), __init__ and *args, **options"


def test_texts_and_titles_stay_as_they_are_shown(tmp_path: Path) -> None:
    pages = [
        f"<html><body><h1>{SHOWN}</h1><p>{SHOWN}</p></body></html>",
        f"<title>{SHOWN}</title><p>{SHOWN}</p>",
    ]
    assert read_pages(tmp_path, *pages) == [(SHOWN, SHOWN), (SHOWN, SHOWN)]


MARKS = st.text(st.sampled_from("abz _*19.()"), min_size=1, max_size=20).map(str.split).map(" ".join)


@given(MARKS.filter(lambda text: any(map(str.isalnum, text))))
def test_a_heading_is_its_words(words: str) -> None:
    soup = BeautifulSoup(f"<body><nav><a href='/'>Home</a></nav><h1>{words}</h1><h2>b</h2>", "html.parser")
    assert take_page_heading(soup, "Acme") == words
    assert soup.get_text() == "Homeb"


@pytest.mark.parametrize(
    ("page", "title", "text"),
    [
        ("<title>Acme Docs</title><header>Home</header><h1>Back up</h1><p>Run it.</p>", "Back up", "Home\n\nRun it."),
        ("<title>Install \u2014 Acme 1.0</title><h1>Install</h1><p>Run it.</p>", "Install", "Run it."),
        ("<title>\n Two\n lines </title><p>Run it.</p>", "Two lines", "Run it."),
        ("<title>Install</title><h2>install</h2><p>Run it.</p>", "Install", "Run it."),
        ("<h2>Install<br>it</h2><p>Run it.</p>", "Install it", "Run it."),
        ("<h1><img src=a.png></h1><h2>Install</h2><p>Run it.</p>", "Install", "# ![](a.png)\n\nRun it."),
        ("<body><p>Run it.</p><svg><title>An icon</title></svg></body>", None, "Run it.\n\nAn icon"),
        ("<title>Acme</title><h2>Install</h2><p>Run it.</p>", "Acme", "## Install\n\nRun it."),
        ("<p>Run it.</p><h2>Install</h2>", None, "Run it.\n\n## Install"),
    ],
)
def test_the_title_is_the_own_heading_of_a_page(tmp_path: Path, page: str, title: str | None, text: str) -> None:
    ((found, words),) = read_pages(tmp_path, page)
    assert (found, words.replace("\n\n\n", "\n\n")) == (title, text)


def test_headings_that_are_no_title_stay_in_the_text(tmp_path: Path) -> None:
    two = "<title>Acme | Owls</title><h1>Acme</h1><h1>Owls</h1><p>They hunt.</p>"
    ((title, text),) = read_pages(tmp_path, two)
    assert (title, text) == ("Acme | Owls", "# Acme\n\n# Owls\n\nThey hunt.")


def test_a_name_that_all_pages_share_is_no_title_where_another_is_there(tmp_path: Path) -> None:
    """The site's name stands in <title> here, and in the heading there."""
    in_title, in_heading = tmp_path / "title", tmp_path / "heading"
    in_title.mkdir()
    in_heading.mkdir()
    topics = ["owls", "newts", "pines"]

    assert read_pages(in_title, *(f"<title>Acme</title><h1>On {each}</h1><p>They are.</p>" for each in topics)) == [
        (f"On {each}", "They are.") for each in topics
    ]
    assert read_pages(in_heading, *(f"<title>On {each}</title><h1>Acme</h1><p>They are.</p>" for each in topics)) == [
        (f"On {each}", "# Acme\n\nThey are.") for each in topics
    ]


@pytest.mark.parametrize(
    ("link", "left"),
    [
        ('<a class="headerlink" href="#linux" title="Link to this heading">\u00b6</a>', ""),
        ('<a href="#x">#</a>', ""),
        ('<a class="hash-link" href="#x" aria-label="Direct link">\u200b</a>', ""),
        ('<a class="header-anchor" href="page.html#x">Permalink to this</a>', ""),
        ('<a class="anchor" href="#x"><svg><path></path></svg></a>', ""),
        (' <a href="#fn1">note 1</a>', " note 1"),
        (' <a class="anchor" href="/other">other</a>', " other"),
    ],
)
def test_links_of_headings_to_themselves_go(link: str, left: str) -> None:
    soup = BeautifulSoup(f"<h2>On Linux{link}</h2>", "html.parser")
    say_in_words(soup)
    assert soup.get_text() == f"On Linux{left}"


def test_links_with_words_stay_outside_of_headings() -> None:
    page = '<p>See <a class="anchor" href="guide.html#intro">the guide</a> first.</p>'
    soup = BeautifulSoup(page, "html.parser")
    say_in_words(soup)
    assert soup.get_text() == "See the guide first."


def test_a_link_around_a_heading_or_a_picture_stays() -> None:
    html = (
        '<h2><a class="header-anchor" href="#x">On Linux</a></h2><a href="#y"><img alt="A drawing" src="a.png"/></a>'
    )
    soup = BeautifulSoup(html, "html.parser")
    say_in_words(soup)
    assert str(soup) == html

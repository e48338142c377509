"""Front matter and headings of Markdown and reStructuredText files give titles, and go from the text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multigrain.config import DocumentsConfig
from multigrain.errors import SourceError
from multigrain.sources.folder import FOLDER, read_folder
from multigrain.sources.headings import take_front_matter, take_heading
from multigrain.sources.source import look_at_documents

BODY = "Owls hunt at night.\n"


@pytest.mark.parametrize(
    ("block", "title"),
    [
        ("---\ntitle: Owls\ndate: 2024-02-30\n---\n", "Owls"),
        ("---\ntitle: Owls\ndate: 0000-00-00\n---\n", "Owls"),
        ("---\ntitle: Owls\ntime: 2024-01-01T99:99:99Z\n---\n", "Owls"),
        ("---\ntitle: 2024\n---\n", "2024"),
        ("---\nTitle: 3.10\n---\n", "3.10"),
        ("---\ntitle: Owls: a life\ntags:\n  - birds\n---\n", "Owls: a life"),
        ('---\ntitle: "Owls" # of ours\nsite: {{ site.name }}\n---\n', "Owls"),
        ("---\ntitle: {{ page.title }}\n---\n", None),
        ("---\ntitle: Owls\nkey: !ENV [KEY, none]\n---\n", "Owls"),
        ("---\ntitle: Owls\n{% if draft %}\ndraft: @yes\n{% endif %}\n---\n", "Owls"),
        ("---\ntitle: >\n  Owls\n  of ours\n---\n", "Owls of ours"),
        ("---\ntitle: Owls\nnote: {{ a }}\u2028of ours\n---\n", "Owls"),
        ("---\ntitle:\ntags: [x]\n---\n", None),
        ("---\ntitle: null\n---\n", None),
        ("---\n---\n", None),
        ('+++\ntitle = "Owls"\ndate = 2024-02-03\n[params]\nx = 1\n+++\n', "Owls"),
        ("+++\ntitle = 2024\n+++\n", "2024"),
        ("---\ntitle: Owls\nauthor: Me\n...\n", "Owls"),
        ("<!-- SPDX: x\n---\n-->\n\n---\ntitle: Owls\n---\n", "Owls"),
        ("\n---\ntitle: Owls\n---\n", "Owls"),
        ('+++\ntitle = "Owls"\ndate = 2024-02-30\n+++\n', "Owls"),
        ('+++\ntitle = "Owls"\nsite = {{ .Site }}\n+++\n', "Owls"),
    ],
)
def test_front_matter_goes_whatever_its_values_are(block: str, title: str | None) -> None:
    assert take_front_matter(block + BODY) == (title, BODY)


@pytest.mark.parametrize(
    "text",
    [
        "---\nA quiet night in the wood.\n---\n" + BODY,
        "---\nA remark: with: too many colons\n---\n" + BODY,
        "---\n- one\n- two\n---\n" + BODY,
        "---\ntitle: never closed\n\n" + BODY,
        "+++\nplus\n+++\n" + BODY,
        '+++\ntitle = "never closed"\n...\n' + BODY,
        "<!-- x --> ---\ntitle: Owls\n---\n" + BODY,
    ],
)
def test_what_stands_between_two_rules_stays(text: str) -> None:
    assert take_front_matter(text) == (None, text)


_TITLES = st.from_regex(r"[A-Z][a-z]{1,8}( [a-z0-9:{}!&*@%]{1,8}){0,4}", fullmatch=True)
_MARKS = st.sampled_from("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")


@given(_TITLES.filter(lambda title: "{{" not in title and " #" not in title), st.text("abc: 0-9{}!&*\"'"))
def test_a_title_survives_whatever_stands_beside_it(title: str, value: str) -> None:
    found, text = take_front_matter(f"---\ntitle: {title}\nother: {value}\n---\n{BODY}")

    assert (found, text) == (title.strip(), BODY)


@given(st.text(), st.sampled_from(["---", "+++"]))
def test_no_front_matter_ends_in_an_error(values: str, mark: str) -> None:
    text = f"{mark}\n{values}\n{mark}\n{BODY}"

    assert text.endswith(take_front_matter(text)[1])


@given(_TITLES, _MARKS, st.booleans(), st.integers(0, 9))
def test_any_mark_underlines_a_title(title: str, mark: str, over: bool, more: int) -> None:
    line = mark * (max(len(title), 4) + more)
    before = f".. _{mark * 2}owls:\n\n.. A comment\n   goes on\n\n:orphan:\n\n"

    for label in ("", before, "\n"):
        text = f"{label}{line + chr(10) if over else ''}{title}\n{line}\n\n{BODY}"
        assert take_heading(text, rst=True) == (title, f"\n{BODY}")


@pytest.mark.parametrize(
    "text",
    [
        "Owls hunt at night.\nThey hear well.\n",
        "An example\n::\n\n    owl()\n",
        ".. note:: Owls bite.\n\nThey hunt at night.\n",
        "=====  =====\nName   Size\n=====  =====\n",
        "----\n\nOwls hunt at night.\n",
        "Too short for this\n--\n",
        "=====\nOwls\n-----\n",
        "=====",
        "",
    ],
)
def test_other_beginnings_of_rst_stay(text: str) -> None:
    assert take_heading(text, rst=True) == (None, text)


@given(st.text("=-~._: \na"))
def test_no_rst_ends_in_an_error(text: str) -> None:
    assert text.endswith(take_heading(text, rst=True)[1])


def test_files_are_read_with_their_titles(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(f"---\ndate: 2024-02-30\n---\n# Owls\n\n{BODY}")
    (tmp_path / "b.rst").write_text(f".. _owls:\n\n~~~~\nOwls\n~~~~\n\n{BODY}")
    (tmp_path / "c.txt").write_text(f"====\nOwls\n====\n\n{BODY}")

    documents, _ = read_folder(tmp_path, unreadable="refuse")

    assert [each.title for each in documents] == ["Owls", "Owls", None]
    assert [each.text for each in documents[:2]] == [BODY.strip()] * 2


def test_files_with_other_endings_are_counted(tmp_path: Path) -> None:
    names = ["a.ipynb", "b.ipynb", "c.adoc", "d.txt.gz", "v1.2.tar.gz", "LICENSE", "E.ADOC", ".hidden.adoc"]
    for name in names:
        (tmp_path / name).write_text("x")
    config = DocumentsConfig(path=tmp_path)
    line = "2 .adoc, 2 .ipynb, 1 without an ending, 1 .tar.gz, 1 .txt.gz"

    with pytest.raises(SourceError, match=f"it holds {line}$"):
        read_folder(tmp_path, unreadable="refuse")
    (tmp_path / "f.md").write_text(BODY)

    (note,) = FOLDER.notes(config)
    assert note == f"7 files were left out, as files with such names are not read: {line}"
    assert look_at_documents(config).notes == (note,)
    for name in names:
        (tmp_path / name).unlink()
    assert list(FOLDER.notes(config)) == []


def test_a_heading_that_differs_from_the_title_of_front_matter_stays(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(f"---\ntitle: Birds\n---\n\n# Owls\n\n{BODY}")
    (tmp_path / "b.md").write_text(f"---\ntitle: Owls\n---\n\n# OWLS.\n\n{BODY}")

    documents, _ = read_folder(tmp_path, unreadable="refuse")

    assert [(each.title, each.text) for each in documents] == [
        ("Birds", f"# Owls\n\n{BODY.strip()}"),
        ("Owls", BODY.strip()),
    ]


@pytest.mark.parametrize(
    ("line", "title"),
    [
        ("# C#", "C#"),
        ("# What is F# #", "What is F#"),
        ("#\tOwls ##", "Owls"),
        ("Owls\n====", "Owls"),
        ("C#\n---", "C#"),
        ("# Install the owl {#install_the_owl .big}", "Install the owl"),
        ("# Install the owl {: #install }", "Install the owl"),
        ("# Owls [![Build](https://x.org/a.svg)](https://x.org)", "Owls"),
        ("# [`owl drain`](https://x.org/drain_it) and *cordon*", "owl drain and cordon"),
        ("# **Owls**", "Owls"),
        ("# ~~Old~~ owl<br>one<a id=x></a>", "Old owl one"),
        (r"# max\_owls &amp; \# max_owls, __init__.py", "max_owls & # max_owls, __init__.py"),
        ("# __Owls__ of *ours*", "Owls of ours"),
        ("# `__init__` and {owl}", "__init__ and {owl}"),
        ("# List<T> and std::vector<int> <sup>2</sup>", "List<T> and std::vector<int> 2"),
        ('<h1 align="center">Owls <b>&amp;</b>\n newts</h1>', "Owls & newts"),
    ],
)
@pytest.mark.parametrize(
    "before",
    [
        "",
        "\n \n",
        "<!-- markdownlint-disable\n# MD033 -->\n<!-- x -->\n",
        "(owl-label)=\n",
        "import Tabs from '@theme/Tabs';\nimport {\n  One,\n  Two,\n} from \"../x\";\nimport './style.css'\n\n",
        '<div align="center">\n<img src="owl.png" alt="An owl">\n\n',
    ],
)
def test_a_title_is_the_words_that_are_shown(before: str, line: str, title: str) -> None:
    assert take_heading(f"{before}{line}\n{BODY}") == (title, BODY if not line.startswith("<") else f"\n{BODY}")


@pytest.mark.parametrize(
    "text",
    [
        "- first item of a list\n---\n" + BODY,
        "1. first item of a list\n---\n" + BODY,
        "> A quotation.\n---\n" + BODY,
        "```yaml\n---\ntitle: x\n---\n```\n" + BODY,
        "~~~\n# a comment\n~~~\n" + BODY,
        "    # code\n" + BODY,
        "| a | b |\n|---|---|\n" + BODY,
        "They hunt\nat night\n---\n" + BODY,
        "[ref]: https://x.org\n---\n" + BODY,
        "<!-- never closed\n# Owls\n" + BODY,
        "import owls\n# a comment\n" + BODY,
        "#hashtag\n" + BODY,
        "#\n" + BODY,
        "# ![A picture](a.png)\n" + BODY,
        "<h1><img src='a.png'></h1>\n" + BODY,
        "***\n" + BODY,
        "[a](b) " * 2_000 + "\n---\n" + BODY,
    ],
)
def test_what_is_no_heading_in_markdown_stays(text: str) -> None:
    assert take_heading(text) == (None, text)


@given(st.text("#=-<>!h1/ \n`_*[]()ab"))
def test_no_markdown_ends_in_an_error(text: str) -> None:
    title, rest = take_heading(text)

    assert text.endswith(rest)
    assert (title is None) == (rest == text)


@pytest.mark.parametrize(
    "before",
    [
        "![logo](logo.png)",
        "[![build](https://ci.example/b(1).svg)](https://ci.example) [![docs][badge]][docs]",
        "[TOC]",
        "[[_TOC_]]",
    ],
)
def test_pictures_and_badges_may_go_before_a_heading(before: str) -> None:
    assert take_heading(f"{before}\n\n# Owls\n{BODY}") == ("Owls", BODY)
    assert take_heading(f"{before} shows owls.\n\n# Owls\n{BODY}")[0] is None


@pytest.mark.parametrize("before", [".. image:: owl.png\n   :alt: An owl", "|build| |docs|", "|logo|_"])
def test_pictures_may_go_before_a_title_of_rst(before: str) -> None:
    assert take_heading(f"{before}\n\nOwls\n====\n{BODY}", rst=True) == ("Owls", BODY)

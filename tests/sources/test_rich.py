"""HTML, PDF and Word files, made here byte by byte, through the real markitdown."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from multigrain.config import DocumentsConfig
from multigrain.errors import MissingExtraError, SourceError
from multigrain.sources import folder, rich
from multigrain.sources.load import load_corpus

_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org"


def body(number: int) -> str:
    return f"Page {number} explains how valve {number} is opened and who may open it."


def write_html(path: Path, number: int) -> None:
    path.write_text(
        f"<html><head><title>Valve {number}</title><style>p{{}}</style></head><body><script>alert(1)</script>"
        f"<p>{body(number)} Caf\u00e9.</p></body></html>",
        encoding="utf-8",
    )


def write_docx(path: Path, number: int, more: str = "") -> None:
    def paragraph(text: str, style: str = "") -> str:
        mark = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
        return f"<w:p>{mark}<w:r><w:t>{text}</w:t></w:r></w:p>"

    content = paragraph(f"Valve {number}", "Heading1") + paragraph(body(number)) + more
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{_OFFICE}/package/2006/content-types"><Default Extension="rels" ContentType="application/'
            'vnd.openxmlformats-package.relationships+xml"/><Override PartName="/word/document.xml" ContentType='
            '"application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>',
        )
        archive.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{_OFFICE}/package/2006/relationships"><Relationship Id="r1" Type="{_OFFICE}/'
            'officeDocument/2006/relationships/officeDocument" Target="word/document.xml"/></Relationships>',
        )
        archive.writestr(
            "word/styles.xml",
            f'<w:styles xmlns:w="{_WORD}"><w:style w:type="paragraph" w:styleId="Heading1"><w:name w:val="heading 1"/>'
            '</w:style><w:style w:type="paragraph" w:styleId="Title"><w:name w:val="Title"/></w:style></w:styles>',
        )
        archive.writestr(
            "word/_rels/document.xml.rels",
            f'<Relationships xmlns="{_OFFICE}/package/2006/relationships"><Relationship Id="r1" Type="{_OFFICE}/'
            'officeDocument/2006/relationships/styles" Target="styles.xml"/></Relationships>',
        )
        archive.writestr("word/document.xml", f'<w:document xmlns:w="{_WORD}"><w:body>{content}</w:body></w:document>')


def write_pdf(path: Path, text: str, *, encrypted: bool = False) -> None:
    drawn = f"BT /F1 12 Tf 72 700 Td ({text}) Tj ET".encode() if text else b""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawn), drawn),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /Filter /Standard /V 1 /R 2 /O <%s> /U <%s> /P -4 >>" % (b"ab" * 32, b"cd" * 32),
    ]
    out = b"%PDF-1.4\n"
    places = []
    for number, each in enumerate(objects, start=1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    extra = b" /Encrypt 6 0 R /ID [<0011> <0011>]" if encrypted else b""
    out += b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, table)
    out += b"trailer << /Size %d /Root 1 0 R%s >>\nstartxref\n%d\n%%%%EOF" % (
        len(objects) + 1,
        extra,
        out.index(b"xref\n0"),
    )
    path.write_bytes(out)


@pytest.fixture
def mixed_folder(tmp_path: Path) -> Path:
    for number in range(4):
        write_html(tmp_path / f"{number}.html", number)
        write_docx(tmp_path / f"{number + 4}.docx", number + 4)
        write_pdf(tmp_path / f"{number + 8}.pdf", body(number + 8))
    return tmp_path


def test_html_word_and_pdf_files_are_documents_with_titles_where_they_say_one(mixed_folder: Path) -> None:
    corpus = load_corpus(DocumentsConfig(path=mixed_folder), seed=1)

    by_id = {each.id: each for each in corpus.documents}
    assert len(by_id) == 12
    for number in range(4):
        html, word, pdf = by_id[f"{number}.html"], by_id[f"{number + 4}.docx"], by_id[f"{number + 8}.pdf"]
        assert (html.title, html.text) == (f"Valve {number}", f"{body(number)} Café.")
        assert (word.title, word.text) == (f"Valve {number + 4}", body(number + 4))
        assert (pdf.title, pdf.text) == (None, body(number + 8))


def test_a_word_file_says_its_powers_and_its_rows(tmp_path: Path) -> None:
    def run(text: str, properties: str = "") -> str:
        return f"<w:r><w:rPr>{properties}</w:rPr><w:t>{text}</w:t></w:r>"

    def cell(text: str, properties: str = "") -> str:
        return f"<w:tc><w:tcPr>{properties}</w:tcPr><w:p>{run(text)}</w:p></w:tc>"

    raised = '<w:vertAlign w:val="superscript"/>'
    power = f"<w:p>{run('Up to 10')}{run('6', raised)}</w:p>"
    rows = [
        cell("Plan") + cell("Month"),
        cell("Basic", '<w:vMerge w:val="restart"/>') + cell("May"),
        cell("", "<w:vMerge/>") + cell("June"),
    ]
    table = f"<w:tbl>{''.join(f'<w:tr>{row}</w:tr>' for row in rows)}</w:tbl>"
    write_docx(tmp_path / "a.docx", 1, power + table)

    (document,), _ = folder.read_folder(tmp_path, unreadable="refuse")

    assert "Up to 10^6" in document.text
    assert "| Basic | May |\n| Basic | June |" in document.text


def test_a_word_file_says_its_fields_and_its_title(tmp_path: Path) -> None:
    def paragraph(content: str, style: str = "") -> str:
        return f'<w:p><w:pPr><w:pStyle w:val="{style}"/></w:pPr>{content}</w:p>'

    def run(text: str) -> str:
        return f'<w:r><w:t xml:space="preserve">{text}</w:t></w:r>'

    field = '<w:fldSimple w:instr=" IF 2 > 1 &quot;x&quot; " w:dirty="0">'
    caption = run("Table ") + f"{field}{run('7')}</w:fldSimple><w:fldSimple w:instr='X'/>" + run(": max_len * 2")
    more = paragraph(run("The manual"), "Title") + paragraph(run("Owls"), "Heading1") + paragraph(caption)
    write_docx(tmp_path / "a.docx", 1, more)

    (document,), _ = folder.read_folder(tmp_path, unreadable="refuse")

    assert document.title == "The manual"
    assert document.text == f"# Valve 1\n\n{body(1)}\n\n# Owls\n\nTable 7: max_len * 2"


@pytest.mark.parametrize(
    ("name", "fragments"),
    [
        ("scan.pdf", ["scan.pdf: no text in it", "ocrmypdf"]),
        ("secret.pdf", ["secret.pdf: encrypted"]),
        ("broken.pdf", ["broken.pdf: not a readable PDF file"]),
        ("broken.docx", ["broken.docx: not a readable DOCX file"]),
        ("empty.html", ["empty.html: no text in it"]),
    ],
)
def test_a_file_without_text_is_named_or_skipped_and_counted(
    mixed_folder: Path, name: str, fragments: list[str]
) -> None:
    path = mixed_folder / name
    if name == "scan.pdf":
        write_pdf(path, "")
    elif name == "secret.pdf":
        write_pdf(path, body(99), encrypted=True)
    else:
        path.write_bytes(b"\x00\x01 nothing of the kind" if "broken" in name else b"<html></html>")

    with pytest.raises(SourceError) as caught:
        load_corpus(DocumentsConfig(path=mixed_folder), seed=1)

    assert "\n" not in str(caught.value)
    assert all(fragment in str(caught.value) for fragment in fragments)
    corpus = load_corpus(DocumentsConfig(path=mixed_folder, unreadable="skip"), seed=1)
    assert (len(corpus.documents), corpus.counts["unreadable"]) == (12, 1)


def test_without_the_reader_the_pip_line_is_printed(mixed_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "markitdown", None)
    rich._converter.cache_clear()
    rich._page_reader.cache_clear()

    with pytest.raises(MissingExtraError, match=r'pip install .*\[documents\]"'):
        load_corpus(DocumentsConfig(path=mixed_folder), seed=1)


@pytest.mark.parametrize(
    ("text", "joined"),
    [
        ("is con-\nfigured here.\nConfigured once", "is configured here.\nConfigured once"),
        ("is con-\nfigured here.", "is con-\nfigured here."),
        ("a well-\nknown word, well-known; wellknown", "a well-\nknown word, well-known; wellknown"),
        ("a well-\nknown word, well-known", "a well-\nknown word, well-known"),
        ("a con-\n\nfigured page. Configured", "a con-\n\nfigured page. Configured"),
        ("state-of-\nthe art, ofthe", "state-of-\nthe art, ofthe"),
        ("die Wind-\nenergie, Windenergie", "die Windenergie, Windenergie"),
        ("con\u00ad\n figured", "configured"),
        ("", ""),
    ],
)
def test_words_divided_at_the_end_of_a_line_are_joined_where_the_text_has_them_whole(text: str, joined: str) -> None:
    assert rich.join_hyphenated(text) == joined

#!/usr/bin/env bash
# markitdown 0.1.8: superscripts and subscripts of Word and HTML files lose their mark: ten to the sixth is 106, and a
# year with the number of a note is a year of five digits (guessed: 10^6, or the <sup> that Markdown allows). The text
# reads well and says something else, for a model that embeds it and for one that writes questions about it.
# Output seen: 'Fewer than 106 cells in 20231' from both.
source "$(dirname "$0")/_run.sh"
in_environment "markitdown[docx]==0.1.8" python-docx==1.2.0 <<'PY'
from pathlib import Path

from docx import Document
from markitdown import MarkItDown

Path("page.html").write_text("<p>Fewer than 10<sup>6</sup> cells in 2023<sup>1</sup></p>")
document = Document()
paragraph = document.add_paragraph("Fewer than 10")
paragraph.add_run("6").font.superscript = True
paragraph.add_run(" cells in 2023")
paragraph.add_run("1").font.superscript = True
document.save("page.docx")
texts = {name: MarkItDown().convert(name).markdown.strip() for name in ("page.html", "page.docx")}
print(texts)
assert set(texts.values()) == {"Fewer than 106 cells in 20231"}
PY

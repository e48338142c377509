#!/usr/bin/env bash
# markitdown 0.1.8: a cell of a Word or HTML table that spans two rows is written in the first of them alone, and the
# second row moves left: its values stand under the headings of others (guessed: the cell is repeated, or left empty). A
# cell that spans two columns does leave an empty one.
# Output seen, from HTML; the same rows from Word, below an empty heading:
# | Plan | Month | Price |
# | --- | --- | --- |
# | Basic | May | 5 |
# | June | 6 |
source "$(dirname "$0")/_run.sh"
in_environment "markitdown[docx]==0.1.8" python-docx==1.2.0 <<'PY'
from pathlib import Path

from docx import Document
from markitdown import MarkItDown

Path("page.html").write_text(
    "<table><tr><th>Plan</th><th>Month</th><th>Price</th></tr>"
    "<tr><td rowspan='2'>Basic</td><td>May</td><td>5</td></tr><tr><td>June</td><td>6</td></tr></table>"
)
Path("wide.html").write_text(
    "<table><tr><th>Plan</th><th>Month</th><th>Price</th></tr>"
    "<tr><td colspan='2'>Basic</td><td>5</td></tr></table>"
)
document = Document()
table = document.add_table(rows=3, cols=3)
for row, words in enumerate(["Plan Month Price", "Basic May 5", ". June 6"]):
    for column, word in enumerate(words.split()):
        if word != ".":
            table.cell(row, column).text = word
table.cell(1, 0).merge(table.cell(2, 0))
document.save("page.docx")
lines = {
    name: MarkItDown().convert(name).markdown.strip().splitlines() for name in ("page.html", "page.docx", "wide.html")
}
print(*lines["page.html"], "", *lines["page.docx"], "", *lines["wide.html"], sep="\n")
expected = ["| Plan | Month | Price |", "| Basic | May | 5 |", "| June | 6 |"]
for name in ("page.html", "page.docx"):
    assert [line for line in lines[name] if "---" not in line and line.strip("| ")] == expected
assert lines["wide.html"][-1] == "| Basic | | 5 |"
PY

"""Tables as plain text, as HTML for notebooks, and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from multigrain.display.text import one_line


@dataclass(frozen=True)
class Table:
    """A title, columns, rows, and sentences below. Texts may come from anywhere.

    Attributes:
        title: one line above it.
        columns: their heads; the first column is text, the others are figures.
        rows: a cell for each column.
        notes: sentences below it.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def __str__(self) -> str:
        cells = [[one_line(cell) for cell in row] for row in (self.columns, *self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if place == 0 else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in cells
        ]
        return "\n".join([one_line(self.title), *(lines if self.rows else ()), *map(one_line, self.notes)])

    def _repr_html_(self) -> str:
        parts = [f"<p><strong>{_html(self.title)}</strong></p>"]
        if self.rows:
            head = "".join(f'<th scope="col">{_html(column)}</th>' for column in self.columns)
            body = "".join(f"<tr>{''.join(_cells(row))}</tr>" for row in self.rows)
            parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
        parts += [f"<p>{_html(note)}</p>" for note in self.notes]
        return f"<div>{''.join(parts)}</div>"


def _cells(row: Sequence[str]) -> list[str]:
    first, *rest = row
    return [
        f'<th scope="row" style="text-align:left">{_html(first)}</th>',
        *(f'<td style="text-align:right">{_html(cell)}</td>' for cell in rest),
    ]


def _html(text: str) -> str:
    return escape(one_line(text), quote=True)


def markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table whose columns line up as plain text too.

    Args:
        rows: the head first; a cell for each column.
    """
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    head, *body = (
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |" for row in cells
    )
    return [head, f"|{'|'.join('-' * (width + 2) for width in widths)}|", *body]

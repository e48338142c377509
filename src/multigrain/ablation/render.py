"""The table as Markdown for people, CSV for programs and LaTeX for papers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Final

from multigrain.ablation.matrix import shown
from multigrain.ablation.table import AblationTable, Cell, Effect, TableRow
from multigrain.display.tables import markdown_table
from multigrain.evaluation.results import choice_words

__all__ = ["is_claimed", "table_notes", "to_csv", "to_latex", "to_markdown"]

_LATEX: Final = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}
_SIGNIFICANT: Final = "*"


def to_markdown(table: AblationTable) -> str:
    """A table with notes below it."""
    rows = [["", *table.axes, *(_heading(table, name) for name in table.sets), "seeds", "seconds", "rows"]]
    for row in table.rows:
        cells = [_cell(table, row, name) for name in table.sets]
        figures = [str(row.seeds), f"{row.seconds:.0f}", str(row.rows)]
        rows.append(["✓" if row.chosen else "", *_axis_values(table, row), *cells, *figures])
    return "\n".join([*markdown_table(rows), "", *(f"- {note}" for note in table_notes(table))]) + "\n"


def to_csv(table: AblationTable) -> str:
    """One line for each arm and set, with every figure."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    effect = ("mean", "low", "high", "p_value", "adjusted_p", "effect_size")
    writer.writerow(
        [
            *table.axes,
            *("set", "role", "queries", "seeds", "ndcg_at_10", "seed_spread", "chosen"),
            *(f"from_base_{name}" for name in effect),
            *(f"from_reference_{name}" for name in effect),
            *("seconds", "rows"),
        ]
    )
    for row in table.rows:
        for name, role in table.sets.items():
            cell = row.cells[name]
            writer.writerow(
                [
                    *_axis_values(table, row),
                    *(name, role, table.queries[name], row.seeds, cell.ndcg_at_10),
                    *("" if cell.seed_spread is None else cell.seed_spread, int(row.chosen)),
                    *_figures(cell.from_base),
                    *_figures(cell.from_reference),
                    *(round(row.seconds, 1), row.rows),
                ]
            )
    return target.getvalue()


def to_latex(table: AblationTable) -> str:
    """A booktabs table with a caption of the notes."""
    columns = "l" * len(table.axes) + "r" * (len(table.sets) + 2)
    lines = [
        r"\begin{table}[t]",
        r"\centering",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(_latex(each) for each in (*table.axes, *table.sets, "seeds", "seconds")) + r" \\",
        r"\midrule",
    ]
    for row in table.rows:
        scores = [_latex_cell(table, row, name) for name in table.sets]
        values = [*(_latex(each) for each in _axis_values(table, row)), *scores, str(row.seeds), f"{row.seconds:.0f}"]
        lines.append(" & ".join(values) + r" \\")
    caption = _latex(" ".join(table_notes(table)))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", rf"\caption{{{caption}}}", r"\end{table}"]) + "\n"


def _heading(table: AblationTable, name: str) -> str:
    return f"{name} ({table.sets[name]}, {table.queries.get(name, 0):,} queries)"


def _axis_values(table: AblationTable, row: TableRow) -> list[str]:
    return [shown(row.values[axis]) for axis in table.axes]


def _cell(table: AblationTable, row: TableRow, name: str) -> str:
    cell = row.cells[name]
    parts = [f"{cell.ndcg_at_10:.3f}{_spread(cell)}", f"base {_signed(cell.from_base, table, name)}"]
    if cell.from_reference is not None:
        parts.append(f"ref {_signed(cell.from_reference, table, name)}")
    return "; ".join(parts)


def _latex_cell(table: AblationTable, row: TableRow, name: str) -> str:
    cell = row.cells[name]
    difference = cell.from_base.difference
    starred = f"^{{{_SIGNIFICANT}}}" if is_claimed(cell.from_base, table, name) else ""
    interval = f"[{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"
    return f"${100 * cell.ndcg_at_10:.1f}$ (${100 * difference.mean:+.1f}{starred}$ ${interval}$)"


def _signed(effect: Effect, table: AblationTable, name: str) -> str:
    found = effect.difference
    star = _SIGNIFICANT if is_claimed(effect, table, name) else ""
    return f"{100 * found.mean:+.1f}{star} [{100 * found.low:+.1f}, {100 * found.high:+.1f}] d={effect.size:+.2f}"


def is_claimed(effect: Effect, table: AblationTable, name: str) -> bool:
    """Whether a difference may be claimed: its corrected p-value is small enough, and the set is no validation set."""
    return table.sets[name] != "validation" and effect.adjusted_p < 1 - table.confidence


def _spread(cell: Cell) -> str:
    return f" ±{cell.seed_spread:.3f}" if cell.seed_spread is not None else ""


def _figures(effect: Effect | None) -> Sequence[float | str]:
    if effect is None:
        return [""] * 6
    found = effect.difference
    return [found.mean, found.low, found.high, found.p_value, effect.adjusted_p, effect.size]


def table_notes(table: AblationTable) -> Iterator[str]:
    """What a reader of the table must know, in sentences."""
    percent = f"{100 * table.confidence:g}%"
    yield (
        "nDCG@10, mean over queries and seeds (± standard deviation between seeds); base and ref: difference in "
        f"points from the base model and from the reference arm, with its {percent} bootstrap interval over queries "
        "and, where there are several, seeds, and Cohen's d for paired scores."
    )
    yield f"Reference arm: {table.reference}."
    alpha = f"{1 - table.confidence:.2g}"
    yield f"{_SIGNIFICANT} p < {alpha} by a paired randomisation test, Holm-corrected over the table."
    if table.ranked_by:
        yield f"✓ ranked first by {choice_words(table.ranked_by)}, which claims nothing: only test sets judge."
    spent = f"Shared by the arms: {table.data_seconds:.0f} s of writing and auditing, {table.tokens:,} tokens"
    yield spent + (f", ${table.cost:.2f}." if table.cost is not None else ".")
    if table.not_run:
        yield f"Not run, for the budget: {'; '.join(table.not_run)}."


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text).replace("✓", r"$\checkmark$")

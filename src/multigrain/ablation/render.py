"""The table as Markdown for people, CSV for programs and LaTeX for papers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final

from multigrain.ablation.matrix import shown
from multigrain.ablation.table import AblationTable, Side, TableRow
from multigrain.display.tables import markdown_table
from multigrain.evaluation.results import selection_words

_LATEX: Final = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "✓": r"$\checkmark$"}
)
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
        for name, result in table.sets.items():
            writer.writerow(
                [
                    *_axis_values(table, row),
                    *(name, result.role, result.queries, row.seeds, table.score(name, row.arm)),
                    *(row.deviations.get(name, ""), int(row.chosen)),
                    *_figures(table.from_base, name, row.arm),
                    *_figures(table.from_reference, name, row.arm),
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
        " & ".join(map(_latex, (*table.axes, *table.sets, "seeds", "seconds"))) + r" \\",
        r"\midrule",
    ]
    for row in table.rows:
        scores = [_latex_cell(table, row, name) for name in table.sets]
        values = [*map(_latex, _axis_values(table, row)), *scores, str(row.seeds), f"{row.seconds:.0f}"]
        lines.append(" & ".join(values) + r" \\")
    caption = _latex(" ".join(table_notes(table)))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", rf"\caption{{{caption}}}", r"\end{table}"]) + "\n"


def _heading(table: AblationTable, name: str) -> str:
    return f"{name} ({table.sets[name].role}, {table.sets[name].queries:,} queries)"


def _axis_values(table: AblationTable, row: TableRow) -> list[str]:
    return [shown(row.values[axis]) for axis in table.axes]


def _cell(table: AblationTable, row: TableRow, name: str) -> str:
    deviation = f" ±{row.deviations[name]:.3f}" if name in row.deviations else ""
    parts = [f"{table.score(name, row.arm):.3f}{deviation}"]
    for title, side in (("base", table.from_base), ("ref", table.from_reference)):
        difference = side.difference(name, row.arm)
        if difference is not None:
            parts.append(
                f"{title} {100 * difference.mean:+.1f}{star(side, name, row.arm)} "
                f"[{100 * difference.low:+.1f}, {100 * difference.high:+.1f}] "
                f"d={side.effect_sizes[name, row.arm]:+.2f}"
            )
    return "; ".join(parts)


def _latex_cell(table: AblationTable, row: TableRow, name: str) -> str:
    difference = table.sets[name].delta[row.arm]
    starred = f"^{{{_SIGNIFICANT}}}" if star(table.from_base, name, row.arm) else ""
    interval = f"[{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"
    return f"${100 * table.score(name, row.arm):.1f}$ (${100 * difference.mean:+.1f}{starred}$ ${interval}$)"


def star(side: Side, name: str, arm: str) -> str:
    """A star where a difference is claimed, else nothing."""
    conclusion = side.conclusion(name, arm)
    return _SIGNIFICANT if conclusion is not None and conclusion.is_claimed else ""


def _figures(side: Side, name: str, arm: str) -> Sequence[float | str]:
    difference, conclusion = side.difference(name, arm), side.conclusion(name, arm)
    if difference is None:
        return [""] * 6
    adjusted_p = difference.p_value if conclusion is None else conclusion.adjusted_p
    return [
        *(difference.mean, difference.low, difference.high, difference.p_value, adjusted_p),
        side.effect_sizes[name, arm],
    ]


def table_notes(table: AblationTable) -> Iterator[str]:
    """What a reader of the table must know, in sentences."""
    percent = f"{100 * table.confidence:g}%"
    if table.reranked:
        yield f"Every arm is scored in two steps: {table.reranked}."
    yield (
        "nDCG@10, mean over queries and seeds (± standard deviation between seeds); base and ref: difference in "
        f"points from {table.baseline} and from the reference arm, with its {percent} interval over queries "
        "(clusters of them, where they share documents) and, where there are several, seeds, and Cohen's d for paired "
        "scores."
    )
    yield f"Reference arm: {table.reference}."
    alpha = f"{1 - table.confidence:.2g}"
    yield (
        f"{_SIGNIFICANT} the interval stays clear of zero, and p < {alpha} by a paired randomisation test, "
        "Holm-corrected over the table."
    )
    if table.ranked_by:
        yield f"✓ ranked first by {selection_words(table.ranked_by)}, which claims nothing: only test sets judge."
    spent = f"Shared by the arms: {table.data_seconds:.0f} s of writing and auditing, {table.tokens:,} tokens"
    yield spent + (f", ${table.cost:.2f}." if table.cost is not None else ".")
    if table.not_run:
        yield f"Not run, for the budget: {'; '.join(table.not_run)}."


def _latex(text: str) -> str:
    return text.translate(_LATEX)


def plain_table(table: AblationTable) -> dict[str, Any]:
    """The table as JSON-like values, a cell for each set in every row."""

    def effect(side: Side, name: str, arm: str) -> dict[str, Any] | None:
        difference, conclusion = side.difference(name, arm), side.conclusion(name, arm)
        return (
            None
            if difference is None
            else {
                "difference": asdict(difference),
                "adjusted_p": None if conclusion is None else conclusion.adjusted_p,
                "size": side.effect_sizes[name, arm],
            }
        )

    results = table.from_base.sets
    shared = {key: value for key, value in vars(table).items() if key not in ("from_base", "from_reference", "rows")}
    return {
        **shared,
        "sets": {name: result.role for name, result in results.items()},
        "queries": {name: result.queries for name, result in results.items()},
        "rows": [
            {
                **{key: value for key, value in vars(row).items() if key != "deviations"},
                "cells": {
                    name: {
                        "ndcg_at_10": result.models[row.arm].score,
                        "seed_spread": row.deviations.get(name),
                        "from_base": effect(table.from_base, name, row.arm),
                        "from_reference": effect(table.from_reference, name, row.arm),
                    }
                    for name, result in results.items()
                },
            }
            for row in table.rows
        ],
    }

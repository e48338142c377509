"""Draw an ablation's table as one self-contained page."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from multigrain.ablation.matrix import shown
from multigrain.ablation.render import is_claimed, table_notes
from multigrain.ablation.table import AblationTable, Effect, TableRow
from multigrain.display import numbers as figures
from multigrain.report import charts
from multigrain.report.data import EvaluationSet, Interval, ModelScore
from multigrain.report.render import digest, environment, static_text

__all__ = ["render_ablation"]

_HEADINGS = {
    "test": ("Test", "Used for nothing but these figures."),
    "forgetting": ("Unrelated text", "What was learnt should cost nothing here."),
    "validation": ("Validation", "Ranks the arms, so it flatters the first; it claims nothing."),
}
_SHOWN_ALONE = ("Validation", "Shown alone: it neither ranks the arms nor claims anything.")


@dataclass(frozen=True, slots=True)
class _Line:
    """One arm on one set, as the page shows it."""

    arm: str
    kind: str
    score: ModelScore
    spread: str
    base: str
    reference: str
    seeds: int
    seconds: float


def render_ablation(table: AblationTable) -> str:
    """The table as one HTML page: no network, no scripts, no other files."""
    style = Markup(static_text("report.css"))  # noqa: S704 -- our own file
    order = ("test", "forgetting", "validation")
    names = sorted(table.sets, key=lambda name: order.index(table.sets[name]))
    chosen = next((row for row in table.rows if row.chosen), None)
    return (
        environment()
        .get_template("ablation.html.jinja")
        .render(
            table=table,
            style=style,
            policy=f"default-src 'none'; style-src '{digest(style)}'; base-uri 'none'; form-action 'none'",
            sets=[(name, *_heading(table, name), table.queries.get(name, 0), _lines(table, name)) for name in names],
            axis=charts.difference_axis([_as_set(table, name) for name in names]),
            notes=list(table_notes(table)),
            chosen=chosen,
            claims=[] if chosen is None else [claim for name in names if (claim := _claim(table, chosen, name))],
            seconds=sum(row.seconds * row.seeds for row in table.rows) + table.data_seconds,
        )
    )


def _heading(table: AblationTable, name: str) -> tuple[str, str]:
    role = table.sets[name]
    return _HEADINGS[role] if role != "validation" or name in table.ranked_by else _SHOWN_ALONE


def _as_set(table: AblationTable, name: str) -> EvaluationSet:
    scores = tuple(_score(row, name) for row in table.rows)
    return EvaluationSet(name, table.sets[name], "", table.queries.get(name, 0), None, scores)


def _score(row: TableRow, name: str) -> ModelScore:
    cell = row.cells[name]
    found = cell.from_base.difference
    return ModelScore(row.arm, cell.ndcg_at_10, None, Interval(found.mean, found.low, found.high, found.p_value))


def _lines(table: AblationTable, name: str) -> list[_Line]:
    lines = []
    for row in table.rows:
        cell = row.cells[name]
        lines.append(
            _Line(
                arm=", ".join(f"{axis} {shown(row.values[axis])}" for axis in table.axes),
                kind="chosen" if row.chosen else "base" if row.arm == table.reference else "other",
                score=_score(row, name),
                spread="" if cell.seed_spread is None else f" ±{100 * cell.seed_spread:.1f}",
                base=_effect(cell.from_base, table, name),
                reference="reference" if cell.from_reference is None else _effect(cell.from_reference, table, name),
                seeds=row.seeds,
                seconds=row.seconds,
            )
        )
    return lines


def _effect(effect: Effect, table: AblationTable, name: str) -> str:
    found = effect.difference
    star = "*" if is_claimed(effect, table, name) else ""
    return f"{figures.interval(Interval(found.mean, found.low, found.high))}{star}, d {effect.size:+.2f}"


def _claim(table: AblationTable, row: TableRow, name: str) -> str | None:
    if table.sets[name] == "validation":
        return None
    effect = row.cells[name].from_base
    found = effect.difference
    figure = f"{figures.interval(Interval(found.mean, found.low, found.high))} points on {name}"
    if not is_claimed(effect, table, name):
        return f"Against the base model {figure}: not enough to claim a difference."
    return f"{'Better' if found.mean > 0 else 'Worse'} than the base model: {figure}."

"""Draw an ablation's table as one self-contained page."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from multigrain.ablation.matrix import shown
from multigrain.ablation.render import star, table_notes
from multigrain.ablation.table import AblationTable, Side, TableRow
from multigrain.display import numbers as figures
from multigrain.evaluation.significance import PairedDifference
from multigrain.report import charts, headline
from multigrain.report.assets import digest, static_text
from multigrain.report.render import environment

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
    score: float
    deviation: str
    delta: PairedDifference | None
    tone: str
    base: str
    reference: str
    seeds: int
    seconds: float


def render_ablation(table: AblationTable) -> str:
    """The table as one HTML page: no network, no scripts, no other files."""
    style = Markup(static_text("report.css"))  # noqa: S704 -- our own file
    order = ("test", "forgetting", "validation")
    names = sorted(table.sets, key=lambda name: order.index(table.sets[name].role or "test"))
    chosen = next((row for row in table.rows if row.chosen), None)
    return (
        environment()
        .get_template("ablation.html.jinja")
        .render(
            table=table,
            style=style,
            policy=f"default-src 'none'; style-src '{digest(style)}'; base-uri 'none'; form-action 'none'",
            sets=[(name, *_heading(table, name), table.sets[name].queries, _lines(table, name)) for name in names],
            axis=charts.difference_axis(table.sets.values()),
            notes=list(table_notes(table)),
            chosen=chosen,
            claims=[] if chosen is None else [claim for name in names if (claim := _claim(table, chosen, name))],
            seconds=sum(row.seconds * row.seeds for row in table.rows) + table.data_seconds,
        )
    )


def _heading(table: AblationTable, name: str) -> tuple[str, str]:
    role = table.sets[name].role or "test"
    return _HEADINGS[role] if role != "validation" or name in table.ranked_by else _SHOWN_ALONE


def _lines(table: AblationTable, name: str) -> list[_Line]:
    return [
        _Line(
            arm=", ".join(f"{axis} {shown(row.values[axis])}" for axis in table.axes),
            kind="chosen" if row.chosen else "base" if row.arm == table.reference else "other",
            score=table.score(name, row.arm),
            deviation=f" ±{100 * row.deviations[name]:.1f}" if name in row.deviations else "",
            delta=table.from_base.difference(name, row.arm),
            tone=headline.tone_of(table.from_base.conclusion(name, row.arm)),
            base=_effect(table.from_base, name, row.arm),
            reference=_effect(table.from_reference, name, row.arm) or "reference",
            seeds=row.seeds,
            seconds=row.seconds,
        )
        for row in table.rows
    ]


def _effect(side: Side, name: str, arm: str) -> str:
    difference = side.difference(name, arm)
    if difference is None:
        return ""
    return f"{figures.interval(difference)}{star(side, name, arm)}, d {side.effect_sizes[name, arm]:+.2f}"


def _claim(table: AblationTable, row: TableRow, name: str) -> str | None:
    conclusion = table.from_base.conclusion(name, row.arm)
    if conclusion is None:
        return None
    figure = f"{figures.interval(conclusion.difference)} points on {name}"
    if not conclusion.is_claimed:
        return f"Against {table.baseline} {figure}: {conclusion.verdict.value}."
    return f"{conclusion.verdict.value.capitalize()} than {table.baseline}: {figure}."

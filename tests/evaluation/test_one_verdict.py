"""Every surface reads the same stored results, so every surface gives the same verdict."""

from __future__ import annotations

import csv
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.report.example_run import ExampleRun, build_run

from multigrain.ablation.page import render_ablation
from multigrain.ablation.render import to_csv, to_markdown
from multigrain.ablation.table import ArmScores, build_table
from multigrain.evaluation.comparison import compare_stored, comparison_values, sentences, table_lines
from multigrain.evaluation.per_query import QueryRow, write_per_query
from multigrain.evaluation.results import EvaluationResults, summarise_set, write_results
from multigrain.evaluation.retrieval import QueryScore, SetScores
from multigrain.evaluation.sets.retrieval_set import EvaluationSet, Role
from multigrain.evaluation.settings import CompareSettings
from multigrain.evaluation.verdict import Verdict, conclusions_of
from multigrain.recipes import recipe
from multigrain.report.card import write_card
from multigrain.report.headline import headline
from multigrain.report.render import write_report
from multigrain.stages.evaluation import advice
from multigrain.storage.rundir import RunDirectory
from multigrain.tools.demo import demo_summary
from multigrain.tools.demo_budget import DemoPlan

SETTINGS = CompareSettings(samples=400, seed=5)
BADGES = {
    Verdict.BETTER: {"measured gain"},
    Verdict.WORSE: {"worse than before"},
    Verdict.EQUAL: {"no difference that matters"},
    Verdict.UNDECIDED: {
        "perhaps better, not shown",
        "no gain shown",
        "no gain shown; looks worse, too few queries to be sure",
    },
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A complete run whose results each example replaces."""
    example = build_run(tmp_path_factory.mktemp("verdicts") / "run", ExampleRun(rows=20, queries=20))
    example.model_path.mkdir()
    (example.model_path / "modules.json").write_text("[]")
    return example


Scores = dict[str, dict[str, np.ndarray]]
"""Set to model to nDCG@10 by query."""


@st.composite
def drawn_scores(draw: st.DrawFn) -> tuple[Scores, dict[str, Role]]:
    """A test set, and maybe others, with gains around the border of what can be shown."""
    roles: dict[str, Role] = {"validation": "validation", "test": "test"}
    roles |= draw(st.sampled_from([{}, {"unrelated": "forgetting"}, {"faq": "test", "unrelated": "forgetting"}]))
    models = ["ata", "mean", "in-batch"][: draw(st.integers(1, 3))]
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    scores: Scores = {}
    for name in roles:
        base = rng.uniform(0.2, 0.7, draw(st.sampled_from([6, 30, 120])))
        scores[name] = {"base": base}
        for model in models:
            deviation = draw(st.sampled_from([0.005, 0.05, 0.2]))
            errors = draw(st.sampled_from([-4.0, -2.5, -1.0, 0.0, 1.0, 2.2, 2.6, 4.0])) / len(base) ** 0.5
            scores[name][model] = base + rng.normal(0, deviation, len(base)) + errors * deviation
        # What is stored are 32-bit floats.
        scores[name] = {model: np.float32(values).astype(np.float64) for model, values in scores[name].items()}
    return scores, roles


def _ids(count: int) -> list[str]:
    return [f"q{number:03}" for number in range(count)]


def _write(run: RunDirectory, scores: Scores, roles: dict[str, Role], chosen: str) -> EvaluationResults:
    results, rows = [], []
    for name, by_model in scores.items():
        ids = _ids(len(by_model["base"]))
        metrics = {"recall_at_10": 0.5}
        by_query = {
            model: SetScores(name, tuple(QueryScore(*pair, 1, (), metrics) for pair in zip(ids, values, strict=True)))
            for model, values in by_model.items()
        }
        evaluation_set = EvaluationSet(
            name, roles[name], "titles", {"d": "text"}, dict.fromkeys(ids, "ask"), {key: {"d": 1} for key in ids}
        )
        results.append(summarise_set(evaluation_set, by_query, SETTINGS))
        rows += [
            QueryRow(name, model, key, "ask", float(value), 1.0, 1, ("d",), ("d",))
            for model, values in by_model.items()
            for key, value in zip(ids, values, strict=True)
        ]
    models = tuple(scores["test"])
    evaluation = EvaluationResults(
        chosen, models, tuple(results), SETTINGS.samples, SETTINGS.confidence, SETTINGS.seed
    )
    write_results(run.results_path / "evaluation.json", evaluation)
    write_per_query(run.results_path / "per_query.parquet", rows)
    for model in models[1:]:
        if run.manifest(f"models/{model}") is None:
            run.finish(f"models/{model}", "7e" * 32, {}, 1.0)
    return evaluation


def _by_query(scores: Scores, model: str) -> dict[str, dict[str, float]]:
    return {name: dict(zip(_ids(len(each[model])), each[model], strict=True)) for name, each in scores.items()}


def _manifest_counts(run: RunDirectory) -> None:
    counted = ("requested", "written", "kept", "negatives_written", "negatives_mined", "written_candidates")
    run.finish("dataset", "a1" * 32, dict.fromkeys(counted, 1), 1.0)


@settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(drawn=drawn_scores())
def test_all_surfaces_agree(run: RunDirectory, drawn: tuple[Scores, dict[str, Role]]) -> None:
    scores, roles = drawn
    chosen = list(scores["test"])[1]
    results = _write(run, scores, roles, chosen)
    _manifest_counts(run)
    conclusions = conclusions_of(results)
    verdicts = {(each.result.name, each.model): each.verdict for each in conclusions}
    assert {name for name, _ in verdicts} == {name for name, role in roles.items() if role != "validation"}
    verdict = verdicts["test", chosen]

    comparison = compare_stored(run.path, base="base")
    values = comparison_values(comparison)
    assert {(each["set"], each["model"]): each["verdict"] for each in values["comparisons"]} == verdicts
    claims = {Verdict.EQUAL: "no difference that matters between", Verdict.UNDECIDED: "not enough queries to tell"}
    for conclusion, sentence in zip(comparison.conclusions, sentences(comparison), strict=True):
        assert claims.get(conclusion.verdict, f"is {conclusion.verdict.value} than base") in sentence

    claimed = {key for key, each in verdicts.items() if each in (Verdict.BETTER, Verdict.WORSE)}
    header, _, *lines = [line for line in table_lines(comparison) if line.startswith("|")]
    columns = [cell.strip() for cell in header.strip("|").split("|")]
    starred = {
        (cells[0].removesuffix(" (forgetting)"), columns[place])
        for cells in ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
        for place, cell in enumerate(cells)
        if "*" in cell
    }
    assert starred == claimed

    statement = headline(results)
    assert (statement.verdict, statement.badge in BADGES[verdict]) == (verdict, True)
    page = write_report(run).read_text()
    assert re.search(rf'<p class="badge {statement.tone}">.*</span> {re.escape(statement.badge)}</p>', page)
    assert f"<h1>{statement.title}</h1>" in page

    card = write_card(run).read_text()
    for (name, model), each in verdicts.items():
        if model == chosen:
            (row,) = [line for line in card.splitlines() if line.startswith(f"| {name} (")]
            assert row.endswith(f"| {each.value} |")
    assert statement.title in card

    *notes, last = advice(results, run.model_path)
    assert statement.advice.removeprefix(f"model/ holds {chosen}").removesuffix(".") in last
    assert ("; use it" in last) == (
        Verdict.BETTER in {verdicts[name, chosen] for name, role in roles.items() if role == "test"}
        and Verdict.WORSE not in {verdicts[name, chosen] for name, role in roles.items() if role == "test"}
    )
    cannot_tell = {note.partition(":")[0] for note in notes if "cannot tell" in note}
    assert cannot_tell == {
        name for name, role in roles.items() if role == "test" and verdicts[name, chosen] is Verdict.UNDECIDED
    }

    demo = recipe("demo")
    candidates = dict.fromkeys(results.models[1:], demo.training.candidates["ata"])
    config = demo.model_copy(update={"training": demo.training.model_copy(update={"candidates": candidates})})
    plan = DemoPlan(13, 5_000.0, 2_000, 24, 24, 400.0)
    summary = demo_summary(run, config, plan, total_seconds=1.0, setup_seconds=None)
    assert summary["verdict"] == {f"tuned_{model}": each for (name, model), each in verdicts.items() if name == "test"}

    arms = [
        ArmScores(
            arm=model,
            values={"arm": model},
            seed=1,
            sets={name: dict(zip(_ids(len(each[model])), each[model], strict=True)) for name, each in scores.items()},
            base={
                name: dict(zip(_ids(len(each["base"])), each["base"], strict=True)) for name, each in scores.items()
            },
            seconds=1.0,
            rows=1,
        )
        for model in results.models[1:]
    ]
    table = build_table(arms, axes=("arm",), sets=roles, reference="none", settings=SETTINGS)
    assert {(each.result.name, each.model): each.verdict for each in table.from_base.conclusions} == verdicts
    for row in csv.DictReader(io.StringIO(to_csv(table))):
        if row["role"] != "validation":
            claims_it = float(row["from_base_adjusted_p"]) < 0.05 and (
                float(row["from_base_low"]) > 0 or float(row["from_base_high"]) < 0
            )
            assert claims_it == ((row["set"], row["arm"]) in claimed)
    assert len(re.findall(r"base [+-][\d.]+\*", to_markdown(table))) == len(claimed)
    assert len(re.findall(r"\]\*, d ", render_ablation(table))) == len(claimed)


def test_results_that_were_copied_keep_their_verdicts(run: RunDirectory, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    base = rng.uniform(0.2, 0.7, 40)
    scores = {name: {"base": base, "ata": base + rng.normal(0.01, 0.05, 40)} for name in ("validation", "test")}
    _write(run, scores, {"validation": "validation", "test": "test"}, "ata")
    shutil.copytree(run.results_path, tmp_path / "copied")
    before, after = (compare_stored(path, base="base").conclusions for path in (run.path, tmp_path / "copied"))
    assert [(each.verdict, each.adjusted_p) for each in before] == [(each.verdict, each.adjusted_p) for each in after]

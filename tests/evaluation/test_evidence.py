"""People's judgments go before titles, and these before queries that a language model wrote, in every summary."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.report.example_run import ExampleRun, build_run

from multigrain.evaluation.results import (
    EvaluationResults,
    ModelScores,
    SetResult,
    plain_set,
    read_results,
    read_sets,
    write_results,
)
from multigrain.evaluation.sets.retrieval_set import HUMAN_TITLES, SYNTHETIC_ESTIMATE, evidence_of
from multigrain.evaluation.sets.written import WrittenQuality, written_quality
from multigrain.evaluation.significance import PairedDifference
from multigrain.evaluation.verdict import conclusions_of, decide, deciding_tests, recommendation
from multigrain.report.card import write_card
from multigrain.report.headline import headline
from multigrain.report.render import write_report
from multigrain.stages.evaluation import advice
from multigrain.storage.rundir import RunDirectory

PROVENANCE = {
    "judgments": "given relevance judgments",
    "titles": HUMAN_TITLES,
    "written": f"{SYNTHETIC_ESTIMATE}, queries by another model: m",
}
UP, DOWN = PairedDifference(0.05, 0.03, 0.07, 0.0001), PairedDifference(-0.05, -0.07, -0.03, 0.0001)
OPEN = PairedDifference(0.01, -0.04, 0.06, 0.7)


def _set(evidence: str, delta: PairedDifference, *, queries: int = 200) -> SetResult:
    models = {"base": ModelScores(0.5), "tuned": ModelScores(0.5 + delta.mean)}
    return SetResult(evidence, "test", PROVENANCE[evidence], queries, 900, models, {"tuned": delta})


def _results(*sets: SetResult) -> EvaluationResults:
    return EvaluationResults("tuned", ("base", "tuned"), sets, 1_000, 0.95, 1)


@cache
def model_folder() -> Path:
    """A folder that says nothing but that no module of it is multigrain's."""
    folder = Path(mkdtemp())
    (folder / "modules.json").write_text("[]")
    return folder


@given(
    st.permutations(list(PROVENANCE)).flatmap(lambda names: st.integers(1, 3).map(lambda count: names[:count])),
    st.lists(st.sampled_from([UP, DOWN, OPEN]), min_size=3, max_size=3),
)
def test_the_best_evidence_leads_in_whatever_order_sets_were_scored(
    names: list[str], deltas: list[PairedDifference]
) -> None:
    sets = [_set(name, delta) for name, delta in zip(names, deltas, strict=False)]
    results = _results(*sets)
    best = min(names, key=list(PROVENANCE).index)

    assert [evidence_of(PROVENANCE[name]) for name in names] == names
    assert results.headline_set is not None
    assert results.headline_set.name == best
    assert {each.result.name for each in deciding_tests(results, conclusions_of(results))} == {best}
    assert results.shown[-1].name == max(names, key=list(PROVENANCE).index)


@given(st.lists(st.sampled_from([UP, DOWN, OPEN]), min_size=3, max_size=3), st.booleans())
def test_written_queries_change_no_decision_where_people_asked(
    deltas: list[PairedDifference], with_titles: bool
) -> None:
    folder = model_folder()
    people = [_set("judgments", deltas[0]), *([_set("titles", deltas[1])] if with_titles else [])]
    alone, beside = _results(*people), _results(_set("written", deltas[2]), *people)

    assert recommendation(alone, conclusions_of(alone)) == recommendation(beside, conclusions_of(beside))
    assert [beside.is_minor(each) for each in beside.shown] == [False] * len(people) + [True]
    said = headline(beside)
    assert "language model" not in " ".join((said.title, *said.details))
    assert not any(line.startswith("written") for line in advice(beside, folder))


def test_a_claim_on_lesser_evidence_is_told_and_a_loss_forbids_use() -> None:
    gained = headline(_results(_set("judgments", OPEN, queries=10), _set("titles", UP)))
    assert gained.title.startswith(("Perhaps better, not shown", "No gain shown"))
    assert "On titles (human-written titles) it is better: +5.0 [3.0, 7.0] points." in gained.details

    lost = _results(_set("judgments", OPEN, queries=10), _set("titles", DOWN))
    assert decide(lost, conclusions_of(lost)) == "worse"
    reserved = _results(_set("judgments", UP), _set("titles", DOWN))
    assert recommendation(reserved, conclusions_of(reserved))[1].startswith(
        "; use it, but not for text like that of t"
    )


@given(st.lists(st.one_of(st.none(), st.integers(1, 100)), min_size=1, max_size=40), st.integers(1, 100))
def test_the_round_trip_counts_queries_that_find_their_document(ranks: list[int | None], within: int) -> None:
    quality = written_quality(ranks, within=within)

    assert quality.found == len([rank for rank in ranks if rank and rank <= within])
    assert f"for {quality.found} of {len(ranks)} " in str(quality)
    assert written_quality(ranks, within=100).found >= quality.found


@pytest.mark.parametrize("quality", [None, WrittenQuality(9, 7, 20), WrittenQuality(9, 7, 20, 12, 9)])
def test_quality_survives_the_file_and_files_without_it_are_as_they_were(quality: WrittenQuality | None) -> None:
    result = replace(_set("written", UP), quality=quality)
    assert read_sets([plain_set(result)]) == (result,)
    assert ("quality" in plain_set(result)) == (quality is not None)


def test_page_and_card_show_written_queries_last_and_small(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run", ExampleRun(rows=20, queries=40))
    path = run.results_path / "evaluation.json"
    results = read_results(path)
    test = results.with_role("test")[0]
    quality = WrittenQuality(test.queries, 30, 20)
    written = replace(test, name="made up", provenance=SYNTHETIC_ESTIMATE, quality=quality)
    write_results(path, replace(results, sets=(written, *results.sets)))
    run.model_path.mkdir()
    (run.model_path / "modules.json").write_text("[]")

    page, card = write_report(run).read_text(), write_card(RunDirectory(run.path)).read_text()

    heading = page.index("Queries that a language model wrote: <bdi>made up</bdi>; they decide nothing")
    assert page.index('id="set-validation-1"') < heading
    assert "the base model finds the right document among the first 20" in page[heading:]
    assert "| made up (" not in card
    assert "and not decisive next to people's queries: made up (40 queries; synthetic estimate)" in card
    assert "name: made up" not in card.split("---")[1], "the hub's index takes people's queries alone"

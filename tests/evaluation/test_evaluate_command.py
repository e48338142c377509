"""`multigrain evaluate` without a run: any models on any sets."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import typer
from tests.encoders.test_encoder import static_model
from typer.testing import CliRunner

from multigrain.cli.compare import compare
from multigrain.cli.evaluate import evaluate
from multigrain.encoders import encoder as encoders
from multigrain.errors import ConfigError, EvaluationError, ModelError

app = typer.Typer()
app.command()(evaluate)
app.command()(compare)

WORDS = ["cat", "dog", "owl"]


def invoke(*arguments: object):
    return CliRunner().invoke(app, ["evaluate", *(str(each) for each in arguments)])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Two models that differ only in weights, a set of three files, and a similarity file."""
    for seed in (0, 1):
        static_model(seed).save(str(tmp_path / f"model-{seed}"))
    (tmp_path / "queries.tsv").write_text("".join(f"q-{word}\t{word}\n" for word in WORDS))
    (tmp_path / "docs.csv").write_text("id,text\n" + "".join(f"{word},the {word} lives\n" for word in WORDS))
    (tmp_path / "qrels.trec").write_text("".join(f"q-{word} 0 {word} 1\n" for word in WORDS))
    (tmp_path / "pairs.csv").write_text("sentence1,sentence2,score\ncat,cat,5\ncat,dog,2\nowl dog,cat,1\nowl,owl,4\n")
    return tmp_path


def own(place: Path) -> str:
    return "own=" + ",".join(str(place / name) for name in ("queries.tsv", "docs.csv", "qrels.trec"))


def test_models_stand_side_by_side_on_sets_of_every_kind(place: Path) -> None:
    found = invoke(
        *(f"one={place / 'model-0'}", f"two={place / 'model-1'}", "bm25"),
        *("--set", own(place), "--forgetting", f"pairs={place / 'pairs.csv'}", "--samples", 200),
    )
    assert found.exit_code == 0, found.output
    header, _, *rows = found.stdout.split("\n\n")[0].splitlines()
    assert [cell.strip() for cell in header.strip("|").split("|")] == ["set", "metric", "size", "one", "two", "bm25"]
    retrieval, similarity = ([cell.strip() for cell in row.strip("|").split("|")] for row in rows)
    assert retrieval[:3] == ["own", "nDCG@10", "3 queries, 3 documents"]
    assert retrieval[5].startswith("1.000")
    assert similarity[:3] == ["pairs (forgetting)", "Spearman", "4 pairs"]
    assert similarity[5] == "–", "BM25 has no similarity of two texts"
    assert "paired 95% intervals" in found.stdout
    assert "pairs: " in found.stdout.split("\n\n")[1], "forgetting is judged in a sentence"


def test_json_is_one_object_with_every_figure(place: Path) -> None:
    found = invoke(
        place / "model-0",
        *(f"two={place / 'model-1'}", "--set", own(place), "--forgetting", place / "pairs.csv", "--json"),
        *("--samples", 200),
    )
    values = json.loads(found.stdout.strip().splitlines()[-1])
    assert values["models"] == [str(place / "model-0"), "two"]
    assert [each["name"] for each in values["scores"]] == ["own", "pairs"]
    assert {each["set"] for each in values["comparisons"]} == {"own", "pairs"}
    assert [(each["set"], each["model"]) for each in values["forgetting"]] == [("pairs", "two")]


def test_results_are_kept_and_an_interrupted_evaluation_goes_on(place: Path, monkeypatch) -> None:
    arguments = (
        *(f"one={place / 'model-0'}", f"two={place / 'model-1'}", "--set", own(place)),
        *("--set", f"pairs={place / 'pairs.csv'}", "--out", place / "out", "--samples", 200),
    )
    original = encoders.SentenceTransformerEncoder.encode_queries
    calls = 0

    def stops(self, texts):
        nonlocal calls
        calls += 1
        if calls == 3:  # the second model's first set
            raise KeyboardInterrupt
        return original(self, texts)

    monkeypatch.setattr(encoders.SentenceTransformerEncoder, "encode_queries", stops)
    assert invoke(*arguments).exit_code != 0
    assert len(list((place / "out" / "scores").iterdir())) == 2

    monkeypatch.setattr(encoders.SentenceTransformerEncoder, "encode_queries", original)
    first = invoke(*arguments)
    assert first.exit_code == 0, first.output
    assert (place / "out" / "evaluation.md").read_text() == first.stdout

    def encodes(*_: object) -> None:
        raise AssertionError("every score is kept")

    monkeypatch.setattr(encoders.SentenceTransformerEncoder, "encode_queries", encodes)
    assert invoke(*arguments).stdout == first.stdout

    compared = CliRunner().invoke(app, ["compare", str(place / "out"), "--base", "one", "--json", "--samples", "200"])
    assert {each["set"] for each in json.loads(compared.stdout)["comparisons"]} == {"own", "pairs"}


def test_smaller_vectors_are_tried_and_kept_with_the_results(place: Path) -> None:
    arguments = (f"one={place / 'model-0'}", "bm25", "--set", own(place), "--out", place / "out", "--samples", 200)
    found = invoke(*arguments, "--vectors", "4, 2", "--quantize", "binary,int8", "--json")
    assert found.exit_code == 0, found.output
    (table,) = json.loads(found.stdout.strip().splitlines()[-1])["vector_sizes"]
    assert (table["set"], table["model"]) == ("own", "one")
    tried = {(size["length"], size["precision"], size["rescored"]) for size in table["sizes"]}
    codes = {("float32", False), ("int8", False), ("int8", True), ("binary", False), ("binary", True)}
    whole = table["sizes"][0]["length"]
    assert tried == {(length, *code) for length in (whole, 4, 2) for code in codes}
    assert "vectors of one on own: no smaller vector is shown" in (place / "out" / "evaluation.md").read_text()

    compared = CliRunner().invoke(app, ["compare", str(place / "out"), "--base", "one", "--json", "--samples", "200"])
    assert json.loads(compared.stdout)["vector_sizes"] == [table]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--vectors", "64,big", "'big' is no length"),
        ("--quantize", "int4", "'int4' is no precision; there are float32"),
    ],
)
def test_sizes_that_are_none_are_refused(place: Path, option: str, value: str, message: str) -> None:
    found = invoke(place / "model-0", "--set", own(place), option, value)
    assert found.exit_code == 2
    assert message in " ".join(found.output.replace("│", " ").split())


def test_changed_weights_in_the_same_folder_are_another_model(place: Path) -> None:
    def similarities() -> list[float]:
        found = invoke(place / "model-0", "--set", f"p={place / 'pairs.csv'}", "--out", place / "out")
        assert found.exit_code == 0, found.output
        return pq.read_table(place / "out" / "similarities.parquet")["similarity"].to_pylist()

    before = similarities()
    static_model(5).save(str(place / "model-0"))
    assert similarities() != before


def test_poolings_and_prompts_make_variants(place: Path, small_bert: Path) -> None:
    found = invoke(small_bert, "bm25", "--pooling", "mean", "--pooling", "cls", "--set", own(place), "--json")
    assert found.exit_code == 0, found.output
    models = json.loads(found.stdout.strip().splitlines()[-1])["models"]
    assert models == [f"{small_bert}@mean", f"{small_bert}@cls", "bm25"]

    prompted = invoke(
        *(f"one={place / 'model-0'}", f"two={place / 'model-0'}", "--set", own(place), "--json", "--samples", 100),
        *("--query-prompt", "two=owl owl owl owl "),
    )
    (only,) = json.loads(prompted.stdout.strip().splitlines()[-1])["scores"]
    assert only["models"]["one"] != only["models"]["two"]
    refused = invoke("bm25", "--pooling", "men", "--set", own(place)).exception
    assert isinstance(refused, ConfigError)
    assert "did you mean 'mean'?" in str(refused)
    assert refused.exit_code == 2


def test_judged_sets_say_what_nobody_judged(place: Path) -> None:
    (place / "qrels.trec").write_text("q-cat 0 cat 1\nq-cat 0 dog 0\nq-dog 0 dog 1\n")
    found = invoke(place / "model-0", "--set", own(place))
    assert "of the first ten documents that each model found, somebody judged: " in found.stdout
    assert "50%" in found.stdout
    assert "count as not relevant" in found.stdout


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["bm25", "--set", "mteb:SciFac"], EvaluationError, "'SciFact'"),
        (["bm25", "--set", "nowhere"], EvaluationError, "nowhere: no such folder"),
        (["nothing/at/all", "--set", "OWN"], ModelError, "nothing/at/all: no such model folder"),
        (["FOLDER"], EvaluationError, "no run directory (it holds no config.yaml)"),
        (["missing.yaml"], ConfigError, "missing.yaml: no such config file"),
    ],
)
def test_what_cannot_be_evaluated_gets_one_line(place: Path, arguments, error, message: str) -> None:
    given = {"OWN": own(place), "FOLDER": str(place)}
    found = invoke(*(given.get(each, each) for each in arguments))
    assert isinstance(found.exception, error), found.output
    assert message in str(found.exception)
    assert "\n" not in str(found.exception)


def test_a_model_that_brings_code_is_refused_in_one_line(place: Path) -> None:
    modules = json.loads((place / "model-0" / "modules.json").read_text())
    modules[0]["type"] = "modeling_own.Own"
    (place / "model-0" / "modules.json").write_text(json.dumps(modules))
    (place / "model-0" / "modeling_own.py").write_text("raise SystemExit('this code was run')\n")
    found = invoke(place / "model-0", "--set", own(place))
    assert isinstance(found.exception, ModelError), found.output
    assert "needs code that comes with the model" in str(found.exception)


def test_models_without_sets_are_refused(place: Path) -> None:
    found = invoke("bm25", place / "model-0")
    assert found.exit_code == 2
    assert "--set" in found.output

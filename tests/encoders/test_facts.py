"""What decides a figure is said where the figure is."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from sentence_transformers import SentenceTransformer
from tests.evaluation.sets.test_beir import write as write_beir
from typer.testing import CliRunner

from multigrain.cli.main import app
from multigrain.encoders.encoder import share_cut
from multigrain.encoders.facts import EncodingFacts, models_alike

from .model_kinds import KINDS, ModelKind


def _folder(name: str, small_bert: Path, tmp_path: Path) -> tuple[ModelKind, Path]:
    (kind,) = (kind for kind in KINDS if kind.name == name)
    kind.write(tmp_path / "model", small_bert)
    return kind, tmp_path / "model"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("bare checkpoint", "mean pooling (a guess: the model names none"),
        ("adapters alone", "mean pooling (a guess: the model names none"),
        ("query and passage", "'river engine ' before queries, 'garden ' before documents"),
        ("query alone", "'river engine ' before queries, no prompt before documents"),
        ("plain", "mean pooling, 64 tokens of a text, weights in float32, no prompts"),
        ("static", "texts of any length"),
    ],
)
def test_evaluate_and_compare_say_how_a_model_was_used(
    kind: str, words: str, small_bert: Path, tmp_path: Path
) -> None:
    folder = _folder(kind, small_bert, tmp_path)[1]
    write_beir(tmp_path / "set")
    arguments = ["evaluate", f"m={folder}", f"other={small_bert}", "--set", str(tmp_path / "set"), "--out"]
    done = CliRunner().invoke(app, [*arguments, str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert f"m: {words}" in done.stdout or words in done.stdout
    assert "other: mean pooling, 64 tokens" in done.stdout
    again = CliRunner().invoke(app, ["compare", str(tmp_path / "out"), "--base", "m"])
    assert words in again.stdout, again.output
    held = json.loads((tmp_path / "out" / "comparison.json").read_text())["facts"]["m"]
    assert words in str(EncodingFacts(**held))


def test_a_pooling_that_was_asked_for_is_no_guess(small_bert: Path, tmp_path: Path) -> None:
    folder = _folder("bare checkpoint", small_bert, tmp_path)[1]
    write_beir(tmp_path / "set")
    done = CliRunner().invoke(app, ["evaluate", f"{folder}@cls", "--set", str(tmp_path / "set")])
    assert "cls pooling, 64 tokens" in done.stdout, done.output


def test_mine_says_it_too(small_bert: Path, tmp_path: Path) -> None:
    folder = _folder("bare checkpoint", small_bert, tmp_path)[1]
    pairs = tmp_path / "pairs.jsonl"
    rows = [{"query": f"river w{number}", "positive": f"engine w{number} w{number + 50}"} for number in range(12)]
    pairs.write_text("\n".join(map(json.dumps, rows)))
    arguments = ["mine", str(pairs), "--model", str(folder), "--out", str(tmp_path / "out.jsonl"), "-n", "1", "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)["facts"]
    assert (facts["pooling"], facts["pooling_guessed"]) == ("mean", True)
    assert facts == {**asdict(EncodingFacts()), **facts}


def test_the_share_of_texts_that_are_cut_is_counted_with_prompt_and_special_tokens(small_bert: Path) -> None:
    model = SentenceTransformer(str(small_bert), device="cpu", prompts={"document": "garden "})
    model.max_seq_length = 16
    fits, too_long = " ".join(["river"] * 13), " ".join(["river"] * 14)
    assert share_cut(model, [fits, too_long, "river", "river"]) == 0.25
    assert share_cut(model, []) == 0.0


def test_what_several_models_or_sets_share_is_said_once() -> None:
    cut = {"validation": 0.14, "test": 0.141, "seen documents": 0.02}
    base = EncodingFacts("mean", max_tokens=256, cut=cut)
    facts = {"base": base, "tuned": replace(base), "other": replace(base, query_prompt="q: ")}

    assert {name: str(own) for name, own in models_alike(facts).items()} == {
        "base, tuned": str(base),
        "other": str(facts["other"]),
    }
    assert str(base).endswith(
        "14% of the texts of validation and test are longer and were cut, "
        "2% of the texts of seen documents are longer and were cut"
    )

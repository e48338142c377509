"""The stage that scores: a run from documents to the report by every kind of teacher, and what is never done twice."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from sentence_transformers import CrossEncoder
from tests.stages.chat_endpoint import ChatEndpoint, graded_answer, run_values
from tests.stages.test_audit import asked, settings
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from multigrain.config.file import parse_config
from multigrain.dataset.store import open_examples
from multigrain.errors import ConfigError, RunMismatchError
from multigrain.records import LEVELS, ScoreScale
from multigrain.stages import run
from multigrain.stages.fingerprints import scores_folder, teacher_fingerprint
from multigrain.stages.run import run_stages
from multigrain.storage.rundir import RunDirectory

BEFORE_TRAINING = ["documents", "synthesis", "audit", "teachers"]


def _values(corpus: Path, model: Path, **training: Any) -> dict[str, Any]:
    values = settings(corpus, model)
    values["training"] |= {"steps": 4, "batch_size": 4, **training}
    return values


@pytest.fixture(scope="module")
def cross_encoder(small_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random cross-encoder."""
    folder = tmp_path_factory.mktemp("cross")
    tokenizer = AutoTokenizer.from_pretrained(small_bert)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(tokenizer), num_labels=1, max_position_embeddings=64, **shape)
    BertForSequenceClassification(config).save_pretrained(folder / "raw")
    tokenizer.save_pretrained(folder / "raw")
    CrossEncoder(str(folder / "raw"), max_length=48, device="cpu").save_pretrained(str(folder / "model"))
    return folder / "model"


def _scored(held: RunDirectory) -> list[Any]:
    (path,) = held.path.glob("teachers/*/graded.parquet")
    return list(open_examples(path))


@pytest.mark.parametrize(
    ("kind", "loss", "scale"),
    [
        ("embedder", "distil", ScoreScale.COSINE),
        ("cross-encoder", "margin-mse", ScoreScale.LOGIT),
        ("judge", "graded", ScoreScale.GRADE),
        ("mix", "distil", ScoreScale.RANK),
    ],
)
def test_every_teacher_trains_from_documents_to_the_report(
    tmp_path: Path, corpus_file: Path, small_bert: Path, cross_encoder: Path, kind: str, loss: str, scale: ScoreScale
) -> None:
    teachers = {
        "embedder": str(small_bert),
        "cross-encoder": str(cross_encoder),
        "judge": "judge",
        "mix": ["judge", {"model": str(cross_encoder), "batch_tokens": 100}],
    }
    # What training made of the weights is kept as it is, whatever validation would prefer.
    settings_of_training = {"loss": loss, "teacher": teachers[kind], "early_stopping": None, "merge": None}
    config = parse_config(_values(corpus_file, small_bert, **settings_of_training))

    finished = run(config, tmp_path / "run")

    rows = _scored(finished)
    assert {row.scale for row in rows} == {scale}
    assert all(len(row.candidates) == 8 for row in rows)
    assert all(row.positive_score is not None for row in rows)
    assert finished.report_path.is_file()
    (tuned,) = config.training.candidates  # whether it is better than the base decides what model/ holds
    weights = load_file(finished.candidate_path(tuned) / "model.safetensors")
    base = load_file(small_bert / "model.safetensors")
    assert any((weights[name] - base[name]).abs().max() > 0 for name in base)
    if kind in ("judge", "mix"):
        manifest = finished.manifest(f"teachers/{next((finished.path / 'teachers').glob('*/')).name}")
        assert manifest is None or manifest.counts["asked"]["judge"] == asked(finished, "judge")


def test_settings_of_training_ask_nobody_again_and_a_lost_scoring_is_made_of_what_is_kept(
    tmp_path: Path, corpus_file: Path, small_bert: Path
) -> None:
    values = _values(corpus_file, small_bert, loss="graded", teacher="judge")
    held = run_stages(parse_config(values), tmp_path / "run", [*BEFORE_TRAINING, "training"])
    (manifest,) = held.path.glob("teachers/*/manifest.json")
    before, judged, rows = manifest.read_bytes(), asked(held, "judge"), _scored(held)
    assert judged > 0

    values["training"] |= {"loss_options": {"in_batch": False}, "schedule": "listwise", "learning_rate": 1e-4}
    run_stages(parse_config(values), tmp_path / "run", ["teachers", "training"], redo=True)

    assert (manifest.read_bytes(), asked(held, "judge")) == (before, judged)
    shutil.rmtree(manifest.parent)
    run_stages(parse_config(values), tmp_path / "run", ["teachers"])
    assert _scored(held) == rows
    assert asked(held, "judge") == judged


def test_what_the_audit_had_judged_is_not_paid_for_again(tmp_path: Path, corpus_file: Path, small_bert: Path) -> None:
    values = _values(corpus_file, small_bert, loss="distil", teacher="judge")
    values["audit"]["judge"] = {"positive_at_least": 0, "negative_at_most": 5, "max_passages": 30}
    held = run_stages(parse_config(values), tmp_path / "run", ["documents", "synthesis", "audit"])
    before = asked(held, "judge")

    run_stages(parse_config(values), tmp_path / "run", ["teachers"])

    pairs = {(row.query, text) for row in _scored(held) for text in (row.positive, *(o.text for o in row.others))}
    assert 0 < before < asked(held, "judge")
    assert asked(held, "judge") - before < len(pairs)


def test_a_run_without_a_teacher_has_no_such_folder_and_rows_as_before(
    tmp_path: Path, corpus_file: Path, small_bert: Path
) -> None:
    held = run_stages(parse_config(_values(corpus_file, small_bert)), tmp_path / "run", BEFORE_TRAINING)

    assert not (held.path / "teachers").exists()
    assert all(not row.candidates and row.scale is None for row in open_examples(held.dataset_path))


def test_candidates_are_no_levels_and_no_positive(tmp_path: Path, corpus_file: Path, small_bert: Path) -> None:
    plain = run_stages(parse_config(_values(corpus_file, small_bert)), tmp_path / "plain", BEFORE_TRAINING[:3])
    taught = run_stages(
        parse_config(_values(corpus_file, small_bert, loss="distil", teacher=str(small_bert))),
        tmp_path / "taught",
        BEFORE_TRAINING[:3],
    )

    for before, row in zip(open_examples(plain.dataset_path), open_examples(taught.dataset_path), strict=True):
        assert [row.negatives[level - 1].text for level in LEVELS] == [n.text for n in before.negatives]
        texts = [row.positive, *(other.text for other in row.others)]
        assert len(set(texts)) == len(texts)


def test_a_teacher_that_no_loss_heeds_is_refused_and_another_teacher_is_scored_beside(
    tmp_path: Path, corpus_file: Path, small_bert: Path
) -> None:
    with pytest.raises(ConfigError, match=r"training.teacher: loss 'infonce' learns nothing from a teacher"):
        run(parse_config(_values(corpus_file, small_bert, teacher="judge")), tmp_path / "run")

    values = _values(corpus_file, small_bert, loss="distil", teacher="judge")
    held = run_stages(parse_config(values), tmp_path / "run", BEFORE_TRAINING)
    values["training"]["teacher"] = str(small_bert)
    run_stages(parse_config(values), tmp_path / "run", ["teachers", "training"])

    assert len(list(held.path.glob("teachers/*/manifest.json"))) == 2
    values["audit"]["max_query_words"] = 59
    with pytest.raises(RunMismatchError, match="`multigrain run CONFIG --redo`"):
        run_stages(parse_config(values), tmp_path / "run", ["training"])


def _between(body: dict[str, Any]) -> dict[str, Any] | None:
    """Probabilities of a grade of 3, halfway to 4, where they are asked for."""
    if not body.get("logprobs"):
        return None
    halves = [{"token": grade, "logprob": math.log(0.5)} for grade in "34"]
    return {"content": [{"token": '{"score": ', "logprob": 0}, {"token": "3", "top_logprobs": halves}, {"token": "}"}]}


@pytest.mark.usefixtures("api_key")
def test_a_judge_of_probabilities_gives_finer_scores_and_no_passage_is_paid_for_twice(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: ChatEndpoint
) -> None:
    endpoint.answer = lambda body: (
        '{"score": 3}' if "How well does" in body["messages"][-1]["content"] else graded_answer(body)
    )
    endpoint.logprobs = _between
    values = run_values(corpus_file, small_bert, endpoint.url)
    values["evaluation"]["queries"] = "titles"
    values["audit"]["judge"] = {"max_passages": 30}
    values["training"] |= {
        "loss": "distil",
        "candidates": {
            "whole": {"teacher": "judge"},
            "finer": {"teacher": {"model": "judge", "probabilities": True}},
        },
    }

    held = run_stages(parse_config(values), tmp_path / "run", BEFORE_TRAINING)

    found = {}
    for path in held.path.glob("teachers/*/graded.parquet"):
        rows = list(open_examples(path))
        assert {row.scale for row in rows} == {ScoreScale.GRADE}
        (score,) = {score for row in rows for score in (row.positive_score, *(other.score for other in row.others))}
        found[path.parent.name] = score
    assert sorted(found.values()) == [pytest.approx(3.0), pytest.approx(3.5)]
    pairs = {(row.query, text) for row in rows for text in (row.positive, *(other.text for other in row.others))}
    judged = [prompt for prompt in endpoint.prompts if "How well does" in prompt]
    assert len(judged) == len(set(judged)) == asked(held, "judge")
    assert len(pairs) <= len(judged) <= len(pairs) + 30


def test_who_asks_for_probabilities_is_another_teacher_and_a_plain_judge_stays_what_it_was(
    corpus_file: Path, small_bert: Path
) -> None:
    config = parse_config(_values(corpus_file, small_bert, loss="distil", teacher="judge"))
    (plain,) = config.training.teacher
    (finer,) = (plain.model_copy(update={"probabilities": True}),)

    assert "probabilities" not in plain.fingerprinted()
    assert teacher_fingerprint(config, plain) != teacher_fingerprint(config, finer)
    assert scores_folder([plain]) != scores_folder([finer])
    with pytest.raises(ConfigError, match="is no judge"):
        parse_config(_values(corpus_file, small_bert, teacher={"model": "auto", "probabilities": True}))

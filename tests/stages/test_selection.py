"""What validation queries choose: step, learning rate and share; and the base model where nothing beats it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from tests.stages.test_training import _prepared, _values, trained
from tests.training.graded import examples

from multigrain.config.file import parse_config
from multigrain.dataset.store import write_examples
from multigrain.display.progress import SilentProgress
from multigrain.encoders.encoder import SentenceTransformerEncoder
from multigrain.evaluation.results import BASE, read_results
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.evaluation.sets.run_sets import SEEN
from multigrain.evaluation.stored import RESULTS_FILE
from multigrain.records import Split
from multigrain.report.headline import headline
from multigrain.sources.store import open_document_table
from multigrain.stages import attempts, selection
from multigrain.stages.base import RunContext
from multigrain.stages.table import STAGES


def _scores(monkeypatch: pytest.MonkeyPatch, values: Iterator[float]) -> list[float]:
    """Let validation give these scores, in order."""
    given: list[float] = []

    def score(*_: Any) -> float:
        given.append(next(values))
        return given[-1]

    monkeypatch.setattr(attempts, "validation_score", score)
    return given


def _log(context: RunContext, name: str = "tuned") -> dict[str, Any]:
    log: dict[str, Any] = json.loads((context.run.candidate_path(name) / "training_log.json").read_text())
    return log


def test_the_best_step_is_kept_and_training_ends_where_nothing_is_gained(
    tmp_path: Path, corpus_file: Path, small_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights: dict[int, dict[str, torch.Tensor]] = {}
    look = selection.Looks.look

    def remembering(looks: selection.Looks, step: int) -> bool:
        weights[step] = {name: weight.detach().clone() for name, weight in looks.model.state_dict().items()}
        return look(looks, step)

    monkeypatch.setattr(selection.Looks, "look", remembering)
    given = _scores(monkeypatch, iter([0.2, 0.5, 0.4, 0.3, 0.9]))
    context = _prepared(tmp_path / "run", _values(corpus_file, small_bert, steps=20, early_stopping=2))
    (kept,) = trained(context)

    assert given == [0.2, 0.5, 0.4, 0.3]
    assert kept.counts["kept_step"] == 4
    log = _log(context)
    assert log["validation"] == {"2": 0.2, "4": 0.5, "6": 0.4, "8": 0.3}
    assert len(log["history"]) == 8
    saved = SentenceTransformer(str(context.run.candidate_path("tuned"))).state_dict()
    for name, weight in weights[4].items():
        torch.testing.assert_close(saved[name], weight)
    assert any(not torch.equal(weights[4][name], weights[8][name]) for name in weights[4])
    assert not any(context.run.checkpoints_path.glob("*"))


class _Noted(SilentProgress):
    """Keeps what the bars say beside their counts."""

    def __init__(self) -> None:
        self.notes: list[tuple[int, str]] = []

    @contextmanager
    def task(self, title: str, total: int | None, *, unit: str = "") -> Iterator[Any]:
        yield self

    def advance(self, steps: int = 1, note: str = "", *, resumed: bool = False) -> None:
        self.notes.append((steps, note.partition(" ")[0]))


def test_the_bar_says_when_validation_is_asked(tmp_path: Path, corpus_file: Path, small_bert: Path) -> None:
    noted = _Noted()
    context = _prepared(tmp_path / "run", _values(corpus_file, small_bert, steps=4, early_stopping=2))
    trained(replace(context, progress=noted))

    assert sum(steps for steps, note in noted.notes if note == "loss") == 4
    assert {steps for steps, note in noted.notes if note == "evaluating"} == {0}
    assert noted.notes.index((0, "evaluating")) < noted.notes.index((1, "loss"))


def test_of_several_rates_the_best_on_validation_is_kept_and_a_finished_one_is_not_trained_again(
    tmp_path: Path, corpus_file: Path, small_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, begun = attempts.train_candidate, []

    def interrupted(*args: Any, **options: Any) -> Any:
        begun.append(options["checkpoints"].name)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return train(*args, **options)

    monkeypatch.setattr(attempts, "train_candidate", interrupted)
    rates = [1e-6, 5e-3]
    context = _prepared(tmp_path / "run", _values(corpus_file, small_bert, learning_rate=rates))
    with pytest.raises(KeyboardInterrupt):
        STAGES["training"].run(context)
    (kept,) = trained(context)

    assert [name.rpartition("-lr")[2] for name in begun] == ["1e-06", "0.005", "0.005"]
    by_rate = kept.counts["rates_by_validation"]
    assert set(by_rate) == {"1e-06", "0.005"}
    assert by_rate[f"{kept.counts['learning_rate']:g}"] == max(by_rate.values())
    assert _log(context)["learning_rate"] == kept.counts["learning_rate"]
    assert not any(context.run.checkpoints_path.glob("*"))


def test_nothing_is_chosen_automatically_without_validation_queries(
    tmp_path: Path, corpus_file: Path, small_bert: Path
) -> None:
    values = _values(corpus_file, small_bert, validation_share=0.0, learning_rate="auto", merge="auto", steps="auto")
    context = _prepared(tmp_path / "run", {**values, "evaluation": {"queries": "titles", "bootstrap_samples": 100}})
    with pytest.raises(Exception, match="validation_share"):
        trained(_prepared(tmp_path / "other", _values(corpus_file, small_bert, 0.0, merge=[0.5, 1])))

    (kept,) = trained(context)

    assert _log(context)["learning_rate"] == 2e-5
    assert not kept.counts.keys() & {"kept_step", "merged", "learning_rate"}


def _evaluated(context: RunContext) -> Any:
    trained(context)
    STAGES["evaluation"].run(context)
    return read_results(context.run.results_path / RESULTS_FILE)


def test_a_model_that_learned_nothing_of_use_leaves_the_base_in_place(
    tmp_path: Path, corpus_file: Path, small_bert: Path
) -> None:
    # So small a rate changes no vector enough to change a ranking: of equal scores the base model's stands first.
    context = _prepared(tmp_path / "run", _values(corpus_file, small_bert, learning_rate=1e-12))
    results = _evaluated(context)

    assert results.chosen == BASE
    base, model = load_file(small_bert / "model.safetensors"), load_file(context.run.model_path / "model.safetensors")
    assert all(torch.equal(model[name], weight) for name, weight in base.items())
    assert "tuned" in results.with_role("test")[0].delta
    assert "the base model stays" in headline(results).title


@pytest.mark.parametrize("saved", [False, True])
def test_a_tuned_model_reads_as_far_as_its_base_unless_the_limit_is_to_be_saved(
    tmp_path: Path, corpus_file: Path, small_bert: Path, saved: bool
) -> None:
    own = SentenceTransformer(str(small_bert)).max_seq_length
    values = _values(corpus_file, small_bert, max_seq_length=8, save_max_seq_length=saved, steps=2)
    context = _prepared(tmp_path / "run", values)
    results = _evaluated(context)

    limit = 8 if saved else own
    assert SentenceTransformer(str(context.run.candidate_path("tuned"))).max_seq_length == limit
    assert SentenceTransformer(str(context.run.model_path)).max_seq_length == limit
    assert {name: facts.max_tokens for name, facts in results.facts.items()} == {BASE: limit, "tuned": limit}


def test_a_base_without_a_limit_is_tuned_and_compared_without_one(
    tmp_path: Path, corpus_file: Path, small_bert: Path
) -> None:
    context = _prepared(tmp_path / "run", _values(corpus_file, Path(f"static:{small_bert}"), steps=2))
    results = _evaluated(context)

    assert {name: facts.max_tokens for name, facts in results.facts.items()} == {BASE: None, "tuned": None}


def _answered_by(context: RunContext, rows: int, *, written: bool) -> int:
    """Give a run as many rows, each of another of its training documents, or written for it; their number."""
    titled = [one for one in open_document_table(context.run.documents_path) if one.split is Split.TRAIN and one.title]
    given = [
        replace(example, document_id=own.id, positive="written" if written else own.text)
        for example, own in zip(cycle(examples()), titled[:rows], strict=False)
    ]
    write_examples(context.run.dataset_path, given)
    return len(given)


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("rows", [4, 1000])
def test_titles_of_documents_that_were_tuned_on_are_a_set_of_their_own(
    rows: int, written: bool, tmp_path: Path, corpus_file: Path, small_bert: Path
) -> None:
    context = _prepared(tmp_path / "run", _values(corpus_file, small_bert, steps=2))
    answered = _answered_by(context, rows, written=written)
    seen = {result.name: (result.role, result.seen_queries, result.queries) for result in _evaluated(context).sets}

    assert seen[SEEN][0] == "test"
    assert answered >= seen[SEEN][1] == seen[SEEN][2] > 0
    assert rows > 4 or answered == 4
    assert seen["test"][1] == seen["validation"][1] == 0


def test_the_pool_holds_the_right_documents_and_the_nearest_and_is_no_larger_than_asked(small_bert: Path) -> None:
    corpus = {f"d{number}": f"river w{number % 50} w{number}" for number in range(120)}
    queries = {f"q{number}": f"river w{number}" for number in range(40)}
    whole = EvaluationSet(
        "v", "validation", "made up", corpus, queries, {f"q{number}": {f"d{number}": 1} for number in range(40)}
    )
    config = parse_config({"training": {"validation_documents": 30}})
    model = SentenceTransformer(str(small_bert))
    encoder = SentenceTransformerEncoder(model)
    (pool,) = selection.validation_pools([whole], encoder, config.training, seed=config.seed)

    assert len(pool.queries) == 6
    assert len(pool.corpus) == 30
    assert {document for grades in pool.qrels.values() for document in grades} <= pool.corpus.keys()
    vectors, asked = model.encode(list(corpus.values())), model.encode(list(pool.queries.values()))
    nearest = {list(corpus)[place] for place in (asked @ vectors.T).argmax(axis=1)}
    assert nearest <= pool.corpus.keys()
    roomy = parse_config({})
    (whole_pool,) = selection.validation_pools([whole], encoder, roomy.training, seed=roomy.seed)
    assert (whole_pool.corpus, whole_pool.queries) == (corpus, queries)

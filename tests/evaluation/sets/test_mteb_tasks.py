from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata
from sentence_transformers import SentenceTransformer
from tests.encoders.test_encoder import static_model

from multigrain.encoders.encoder import SentenceTransformerEncoder
from multigrain.errors import EvaluationError
from multigrain.evaluation.retrieval import evaluate_retrieval
from multigrain.evaluation.scoring import ScoreStore
from multigrain.evaluation.sets.mteb_tasks import as_mteb_task, evaluate_task, find_tasks
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.evaluation.sets.sts import evaluate_sts, spearman


@pytest.fixture
def words() -> EvaluationSet:
    return EvaluationSet(
        name="words",
        role="test",
        provenance="hand-made",
        corpus={"d1": "cat", "d2": "dog", "d3": "owl", "d4": "cat dog owl"},
        queries={"q1": "cat", "q2": "dog owl", "q3": "passage"},
        qrels={"q1": {"d2": 1}, "q2": {"d4": 1}, "q3": {"d3": 1}},
    )


def test_two_folders_that_differ_only_in_weights_score_differently(tmp_path: Path, words: EvaluationSet) -> None:
    model = static_model()
    changed = copy.deepcopy(model)
    with torch.no_grad():
        next(changed.parameters()).copy_(torch.randn(7, 8, generator=torch.Generator().manual_seed(3)))
    for name, each in (("one", model), ("other", changed)):
        each.save(str(tmp_path / name))
    scores = {
        name: evaluate_task(SentenceTransformer(str(tmp_path / name), device="cpu"), as_mteb_task(words)).score
        for name in ("one", "other", "one")
    }
    assert scores["one"] != scores["other"]
    again = evaluate_task(SentenceTransformer(str(tmp_path / "one"), device="cpu"), as_mteb_task(words))
    assert again.score == scores["one"]


def test_per_query_scores_from_predictions_are_our_own(words: EvaluationSet) -> None:
    model = static_model()
    found = evaluate_task(model, as_mteb_task(words), role="forgetting")
    ((made, by_query),) = found.retrieval
    ours = evaluate_retrieval(SentenceTransformerEncoder(model), words)
    assert by_query.queries == ours.queries
    assert found.score == pytest.approx(by_query.ndcg_at_10, abs=1e-4)
    assert (found.task, found.kind, found.metric) == ("words", "Retrieval", "ndcg_at_10")
    assert (made.name, made.role, made.corpus) == ("words", "forgetting", words.corpus)


def test_identical_ids_are_left_out_where_the_task_says_so(words: EvaluationSet) -> None:
    task = as_mteb_task(EvaluationSet("own", "test", "l", words.corpus, {"d1": "cat"}, {"d1": {"d4": 1}}))
    task.ignore_identical_ids = True
    ((_, by_query),) = evaluate_task(static_model(), task).retrieval
    assert "d1" not in by_query.queries[0].top_ids


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("STSBenchmrk", "'STSBenchmark'"), ("scifac", "'SciFact'"), ("MTEB(eng, v9)", "'MTEB(eng, v2)'")],
)
def test_an_unknown_task_gets_the_nearest_names(name: str, suggestion: str) -> None:
    with pytest.raises(EvaluationError) as caught:
        find_tasks([name])
    assert suggestion in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tasks_and_benchmarks_are_found_once() -> None:
    tasks = find_tasks(["SciFact", "MTEB(eng, v2)", "STSBenchmark"])
    names = [task.metadata.name for task in tasks]
    assert names[0] == "SciFact"
    assert len(names) == len(set(names)) == 42
    with pytest.raises(EvaluationError, match="only text models"):
        find_tasks(["Flickr30kI2TRetrieval"])


def test_a_task_whose_data_cannot_be_fetched_says_so(words: EvaluationSet) -> None:
    task = as_mteb_task(words)

    def unreachable() -> None:
        raise ConnectionError("Couldn't reach 'owner/data' on the Hub\nsecond line")

    task.load_data = unreachable
    with pytest.raises(EvaluationError, match=r"'words': its data cannot be fetched \(Couldn't reach") as caught:
        evaluate_task(static_model(), task)
    assert "\n" not in str(caught.value)


class _Pairs(AbsTaskSTS):
    """A similarity task on disk, as a user's own or one of the hub's would be."""

    metadata = TaskMetadata(
        name="Pairs",
        description="hand-made",
        dataset={"path": "local", "revision": "local"},
        type="STS",
        category="t2t",
        eval_langs=["eng-Latn"],
        main_score="cosine_spearman",
    )

    def load_data(self, num_proc: int | None = None, **_: object) -> None:
        rows = {"sentence1": ["cat", "cat", "owl dog", "dog"], "sentence2": ["cat", "dog", "cat", "dog owl"]}
        self.dataset = {"default": {"test": Dataset.from_dict(rows | {"score": [5.0, 2.0, 1.0, 4.0]})}}
        self.data_loaded = True


def test_similarity_tasks_give_every_pair_and_our_own_score() -> None:
    model = static_model()
    found = evaluate_task(model, _Pairs(), role="forgetting")
    ((made, similarities),) = found.similarity
    assert (made.name, made.role, made.pairs[2]) == ("Pairs", "forgetting", ("owl dog", "cat"))
    np.testing.assert_allclose(similarities, evaluate_sts(SentenceTransformerEncoder(model), made), rtol=1e-5)
    assert found.score == pytest.approx(spearman(np.array(made.gold), similarities), abs=1e-6)
    assert found.retrieval == ()


def test_kept_results_of_tasks_are_what_was_kept(tmp_path: Path, words: EvaluationSet) -> None:
    for task in (_Pairs(), as_mteb_task(words)):
        made = evaluate_task(static_model(), task)
        store = ScoreStore(tmp_path, "model")
        assert store.task(task, "test") is None
        store.keep_task(task, made)
        again = store.task(task, "test")
        assert again is not None
        assert (again.score, again.retrieval) == (made.score, made.retrieval)
        for (one, left), (two, right) in zip(made.similarity, again.similarity, strict=True):
            assert one == two
            np.testing.assert_array_equal(left, right)
        assert ScoreStore(tmp_path, "other weights").task(task, "test") is None

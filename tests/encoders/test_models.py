"""Models as commands name them."""

from __future__ import annotations

import pytest

from multigrain.encoders.models import ModelSpec, parse_model, with_poolings, with_prompts
from multigrain.errors import EvaluationError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bm25", ModelSpec("bm25", "bm25")),
        ("auto@cls", ModelSpec("auto@cls", "auto", "cls")),
        ("tuned=runs/mine/model", ModelSpec("tuned", "runs/mine/model")),
        ("ata=org/name@ata", ModelSpec("ata", "org/name", "ata")),
        ("runs/me@home/model/", ModelSpec("runs/me@home/model", "runs/me@home/model/")),
    ],
)
def test_models_are_named_in_one_word(text: str, expected: ModelSpec) -> None:
    assert parse_model(text) == expected


def test_poolings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(EvaluationError, match="no pooling has this name; did you mean 'mean'"):
        parse_model("auto@men")
    with pytest.raises(EvaluationError, match="BM25 pools nothing"):
        parse_model("bm25@mean")


def test_a_prompt_for_one_model_reaches_all_its_poolings_and_no_other_model() -> None:
    both = with_poolings([ModelSpec("base", "a"), ModelSpec("tuned", "b")], ["mean", "cls"])
    prompted = with_prompts(both, queries=["tuned=query: ", "tuned@cls=q: ", "all: "], documents=["doc: "])

    assert {spec.name: spec.query_prompt for spec in prompted} == {
        "base@mean": "all: ",
        "base@cls": "all: ",
        "tuned@mean": "query: ",
        "tuned@cls": "q: ",
    }
    assert {spec.document_prompt for spec in prompted} == {"doc: "}
    with pytest.raises(EvaluationError, match=r"no model is called 'tunned'; there are base, base@cls, .* MODEL=TEXT"):
        with_prompts(both, queries=["tunned=query: "], documents=[])

"""What stages say to people when they are done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from sentence_transformers import SentenceTransformer

import multigrain
from multigrain.audit.summary import say_summary
from multigrain.config.file import parse_config
from multigrain.display.progress import SilentProgress
from multigrain.evaluation.results import EvaluationResults, ModelScores, SetResult
from multigrain.evaluation.sets.retrieval_set import Role
from multigrain.evaluation.significance import PairedDifference
from multigrain.model.encoder import build_encoder
from multigrain.model.replacing import pooling_name
from multigrain.records import Document
from multigrain.sources.load import prepare_corpus
from multigrain.stages.documents import document_lines
from multigrain.stages.evaluation import advice


class _Heard(SilentProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def _words(number: int) -> str:
    return " ".join(f"word{number}x{place}" for place in range(12))


def test_documents_that_are_left_out_are_named_and_a_small_test_is_called_small() -> None:
    documents = [Document(f"d{number}.md", _words(number)) for number in range(45)]
    documents += [
        Document("notes.txt", "short"),
        Document("again.md", _words(3)),
        Document("near.md", f"{_words(4)} word"),
    ]
    config = parse_config({})
    corpus = prepare_corpus(documents, config.documents, seed=1)

    found = list(document_lines(config, {**corpus.counts, "source": "handbook"}))

    assert found[0].startswith("documents: 46 from handbook (")
    assert found[0].endswith(
        "; left out: 1 shorter than documents.min_characters=40 (notes.txt), 1 repeated (again.md)"
    )
    assert found[1] == "documents: 1 nearly repeats another, on whose side they stay"
    assert "shows differences of more than about" in found[2]

    nothing = parse_config({"evaluation": {"queries": "none"}})
    assert len(list(document_lines(nothing, corpus.counts))) == 2


def test_titles_that_many_chunks_share_are_counted_as_the_queries_they_are() -> None:
    documents = [
        Document(f"page{page}#{part}", f"{_words(100 * page + part)}", title=f"Page {page}")
        for page in range(10)
        for part in range(30)
    ]
    config = parse_config({})
    counts = prepare_corpus(documents, config.documents, seed=1).counts
    titles, titled = counts["test_titles"], counts["test_titled"]
    assert titled == counts["test"]

    lines = list(document_lines(config, counts))

    assert f"share {titles} titles, so the test asks {titles} queries" in lines[-2]
    assert f"a test of {titles} queries shows" in lines[-1]
    synthetic = parse_config({"evaluation": {"queries": "synthetic"}})
    assert not any("titles" in line for line in document_lines(synthetic, counts))


def test_a_side_that_is_larger_than_asked_for_is_told_with_what_to_do() -> None:
    config = parse_config({})
    counts = {"documents": 450, "train": 170, "validation": 24, "test": 256, "groups": 200, "source": "handbook"}
    (told,) = (line for line in document_lines(config, counts) if "test_share" in line)
    assert (
        "holds 57% of them, and documents.test_share is 20%: large groups of near-duplicates stay on one side" in told
    )
    assert "raise documents.near_duplicate_similarity (it is 0.7)" in told
    (chunks,) = (line for line in document_lines(config, {**counts, "chunked": 31}) if "test_share" in line)
    assert "near-duplicates, and all chunks of a text, stay on one side" in chunks


def test_more_documents_left_out_than_can_be_named_end_in_an_ellipsis() -> None:
    documents = [Document(f"d{number}", _words(number)) for number in range(500)]
    documents += [Document(f"e{number}", "short") for number in range(9)]
    documents += [Document(f"r{number}", _words(number)) for number in range(3)]
    config = parse_config({})

    (line,) = document_lines(config, prepare_corpus(documents, config.documents, seed=1).counts)

    assert line.endswith(
        "left out: 9 shorter than documents.min_characters=40 (e0, e1, e2, …), 3 repeated (r0, r1, r2)"
    )


def _results(role: Role, before: float, after: float, low: float, high: float, queries: int = 5) -> EvaluationResults:
    delta = PairedDifference(after - before, low, high, 0.001 if low > 0 or high < 0 else 0.5)
    scores = {"base": ModelScores(before), "tuned": ModelScores(after)}
    found = SetResult(
        "test" if role == "test" else "validation", role, "titles", queries, 45, scores, {"tuned": delta}
    )
    return EvaluationResults("tuned", ("base", "tuned"), (found,), 100, 0.95, 1)


def test_a_model_that_did_no_better_is_not_recommended(tmp_path: Path) -> None:
    worse = _results("test", 0.99, 0.929, -0.184, 0.0)

    few, what = advice(worse, tmp_path)

    assert few == (
        "test: 5 queries cannot tell tuned from base; too few queries (5) to say how many it would take: test on more "
        "queries"
    )
    assert what.startswith(f"model: {tmp_path} holds tuned, although the test shows no gain")
    assert "keep the base model" in what


def test_a_gain_that_is_not_shown_says_how_many_queries_would_show_it(tmp_path: Path) -> None:
    few, *_ = advice(_results("test", 0.5, 0.54, -0.01, 0.09, queries=68), tmp_path)

    # 68 queries give a standard error of 0.0255; 0.04 is 2.8 of them (1.96 + 0.84) with 68 * (2.8 * 0.0255 / 0.04)².
    assert few.endswith(", to show a gain of 4.0 points, if it is real, about 220")


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (
            -0.02,
            0.06,
            ", not the base model: tuned may be better, but that is not shown; keep the base model, or test tuned",
        ),
        (-0.09, -0.01, ", although it is worse than the base model on the test queries: keep the base model"),
        (0.01, 0.06, "; use it; SentenceTransformer("),
    ],
)
def test_the_test_queries_have_the_last_word(low: float, high: float, words: str, tmp_path: Path) -> None:
    validation = _results("validation", 0.5, 0.6, 0.05, 0.15)
    test = _results("test", 0.5, 0.5 + (low + high) / 2, low, high)
    (tmp_path / "modules.json").write_text("[]")
    *_, what = advice(replace(validation, sets=(*validation.sets, *test.sets)), tmp_path)
    assert what.startswith(f"model: {tmp_path} holds tuned{words}")


def test_where_the_base_answers_everything_there_is_nothing_to_gain(tmp_path: Path) -> None:
    full, _ = advice(_results("test", 1.0, 1.0, 0.0, 0.0), tmp_path)
    assert full == "test: the base model answers every query of it: nothing is left to gain on this set"
    (same,) = advice(_results("test", 0.9, 0.9, -0.005, 0.005, queries=500), tmp_path)
    assert same.startswith("model: ")


_LOADERS: dict[str, Callable[[str], SentenceTransformer]] = {
    "SentenceTransformer": SentenceTransformer,
    "multigrain.load": multigrain.load,
}


@pytest.mark.parametrize(("pooling", "loader"), [("mean", "SentenceTransformer"), ("ata", "multigrain.load")])
def test_a_model_that_did_better_is_named_with_the_line_that_loads_it(
    pooling: Literal["mean", "ata"], loader: str, small_bert: Path, tmp_path: Path
) -> None:
    model: SentenceTransformer = build_encoder(str(small_bert), pooling=pooling, device="cpu")
    model.save_pretrained(str(tmp_path), create_model_card=False)

    (what,) = advice(_results("validation", 0.5, 0.6, 0.05, 0.15, queries=500), tmp_path)

    untested = "test it on queries of your own before you use it"
    assert what == f"model: {tmp_path} holds tuned; {untested}; {loader}({str(tmp_path)!r}) loads it"
    assert pooling_name(_LOADERS[loader](str(tmp_path))) == pooling


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        (
            {"rejected": {"duplicate_query": 2, "negative:too_short": 5}, "written_candidates": 8},
            "audit: 32 rows kept of 34 (not kept: another row has the same query 2); their negatives: 128 mined from "
            "the documents, 0 of the 8 that the model wrote",
        ),
        (
            {"rejected": {}, "written_candidates": 0},
            "audit: 32 rows kept of 34; their negatives: 128 mined from the documents",
        ),
    ],
)
def test_the_audit_says_why_rows_went_and_where_negatives_come_from(counts: dict[str, Any], line: str) -> None:
    heard = _Heard()
    say_summary(
        {"kept": 32, "written": 34, "negatives_mined": 128, "negatives_written": 0, "probe": None, **counts}, heard
    )
    assert heard.lines == [line]

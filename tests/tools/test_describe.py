"""What people see of a data set and of a comparison, at a prompt and in a notebook, whatever the texts hold."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.report.example_run import ExampleRun, build_run
from tests.report.hostile import ATTACK

import multigrain
from multigrain.dataset.store import open_examples
from multigrain.dataset.summary import summarise_examples
from multigrain.display.tables import Table
from multigrain.errors import EvaluationError, StageOrderError
from multigrain.evaluation.comparison import Comparison
from multigrain.evaluation.results import ModelScores
from multigrain.evaluation.verdict import Verdict
from multigrain.records import Origin
from multigrain.storage.rundir import RunDirectory

ALLOWED = {"div", "p", "strong", "table", "thead", "tbody", "tr", "th", "td"}


class _Read(HTMLParser):
    """Tags, attributes and texts, as a browser would read them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    run = build_run(tmp_path_factory.mktemp("described"), ExampleRun(rows=60, queries=80, forgetting=False))
    (run.results_path / "evaluation.json").unlink()
    return run


def test_a_data_set_is_described_by_its_own_rows(example: RunDirectory) -> None:
    found = multigrain.describe(example)
    rows = tuple(open_examples(example.dataset_path))

    assert found.rows == len(rows)
    assert found.documents == len({row.document_id for row in rows})
    assert [each.name for each in found.similarities] == ["positive", "level 1", "level 2", "level 3", "level 4"]
    for place, each in enumerate(found.similarities[1:]):
        negatives = [row.negatives[place] for row in rows]
        below = sum(negative.similarity < each.median for negative in negatives)
        assert abs(below - len(rows) / 2) <= 1
        assert each.low <= each.median <= each.high
        assert each.written == pytest.approx(sum(n.origin is Origin.WRITTEN for n in negatives) / len(rows))
    assert found.rejected
    shown, page = str(found), _Read(found._repr_html_())
    assert f"{len(rows)} graded rows" in shown
    assert page.tags.count("tr") == 6
    for reason, count in found.rejected.items():
        assert f"{reason} {count:,}" in shown
        assert f"{reason} {count:,}" in " ".join(page.texts)


def test_a_path_will_do_and_an_unaudited_run_names_the_command(example: RunDirectory, tmp_path: Path) -> None:
    assert multigrain.describe(str(example.path)) == multigrain.describe(example)
    with pytest.raises(StageOrderError, match="multigrain audit"):
        multigrain.describe(tmp_path)
    with pytest.raises(EvaluationError, match="no model 'nobody'"):
        multigrain.compare(example, base="nobody")


def test_no_rows_are_described_too() -> None:
    empty = summarise_examples([])

    assert str(empty) == "0 graded rows about 0 documents"
    assert "table" not in _Read(empty._repr_html_()).tags


def test_a_comparison_is_a_table_of_its_conclusions(example: RunDirectory) -> None:
    found = multigrain.compare(example)
    page = _Read(found._repr_html_())

    assert found.conclusions
    assert page.tags.count("tr") == 1 + len(found.conclusions)
    for each in found.conclusions:
        assert f"{each.base_score:.3f} → {each.score:.3f}" in page.texts
        assert f"{each.base_score:.3f} → {each.score:.3f}" in str(found)
        assert each.verdict in Verdict
    assert str(found).count("\n") == len(found.conclusions) - 1


def test_nothing_compared_says_so(example: RunDirectory) -> None:
    empty = Comparison(replace(multigrain.compare(example).results, sets=()))

    assert str(empty).startswith("Nothing to compare")
    assert "Nothing to compare" in empty._repr_html_()


def test_hostile_texts_stay_texts(example: RunDirectory) -> None:
    described = replace(multigrain.describe(example), rejected={ATTACK: 3})
    compared = multigrain.compare(example)
    result = next(each for each in compared.results.sets if each.delta)
    scores = {ATTACK: ModelScores(0.5), f"{ATTACK} base": ModelScores(0.4)}
    delta = {ATTACK: next(iter(result.delta.values()))}
    wicked = replace(result, name=ATTACK, provenance=ATTACK, models=scores, delta=delta)
    task = replace(result, name=f"{ATTACK} task", queries=0, models=scores, delta={})
    tables = [described, Comparison(replace(compared.results, models=(f"{ATTACK} base", ATTACK), sets=(wicked, task)))]
    tables.append(Table(ATTACK, [ATTACK, ATTACK], [[ATTACK, ATTACK]], [ATTACK]))
    for each in tables:
        page = _Read(each._repr_html_())
        assert set(page.tags) <= ALLOWED
        assert page.attributes <= {"scope", "style"}
        assert any("onerror=window.hacked=2" in text for text in page.texts)
    for character in "\x00\x1b\u202e\u2066":
        assert character in ATTACK
        assert character not in str(tables[2])
        assert character not in tables[2]._repr_html_()

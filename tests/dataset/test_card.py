"""The folder for a hub, and its card."""

from __future__ import annotations

import json

import pytest
import yaml

from multigrain.dataset.card import size_category, write_dataset_folder
from multigrain.dataset.store import open_examples
from multigrain.errors import SourceError
from multigrain.records import LEVELS, GradedExample, Negative, Origin

AUDIT = {
    "reference_model": "all-MiniLM-L6-v2",
    "rejected": {"round_trip": 3, "negative:refusal": 9},
    "probe": {"auc": 0.91, "low": 0.88, "high": 0.94},
}


def example(number: int, text: str = "plain") -> GradedExample:
    negatives = tuple(
        Negative(f"{text} {int(level)}", level, Origin.MINED if level < 3 else Origin.WRITTEN, 0.1 * int(level))
        for level in LEVELS
    )
    return GradedExample(f"r{number}", "d", f"query {text}", f"positive {text}", negatives, 0.75)  # type: ignore[arg-type]


def test_the_folder_holds_the_rows_the_figures_and_a_card_that_the_hub_can_read(tmp_path) -> None:
    folder = tmp_path / "hub"
    examples = [example(number) for number in range(3)]

    write_dataset_folder(folder, examples, name="my set", audit=AUDIT, licence="cc-by-4.0", languages=["en"])

    rows = tuple(open_examples(folder / "data" / "train-00000-of-00001.parquet"))
    assert [row.id for row in rows] == ["r0", "r1", "r2"]
    card = (folder / "README.md").read_text(encoding="utf-8")
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata["license"] == "cc-by-4.0"
    assert metadata["size_categories"] == ["n<1K"]
    assert metadata["configs"][0]["data_files"][0]["path"] == "data/train-*.parquet"
    assert "6 were written by a language model or given, and 6 mined" in card
    assert "AUC of 0.91" in card
    assert "3 rows were rejected" in card
    assert json.loads((folder / "audit.json").read_text(encoding="utf-8")) == AUDIT


def test_the_hub_s_own_loader_reads_the_folder(tmp_path) -> None:
    from datasets import load_dataset

    write_dataset_folder(tmp_path / "hub", [example(1)], name="set")

    loaded = load_dataset(str(tmp_path / "hub"), split="train", cache_dir=str(tmp_path / "cache"))

    assert loaded[0]["negative_4"] == "plain 4"


def test_no_text_of_a_row_becomes_markup_on_the_card(tmp_path) -> None:
    attack = "# heading [link](http://x) <script>alert(1)</script> `code` | cell\n---\nlicense: mit"
    write_dataset_folder(tmp_path / "hub", [example(1, attack)], name="<b>set</b>\n---\nlicense: mit")

    card = (tmp_path / "hub" / "README.md").read_text(encoding="utf-8")

    assert "license" not in yaml.safe_load(card.split("\n---\n")[0].removeprefix("---"))
    body = card.split("\n---\n", 1)[1]
    assert "<script>" not in body
    assert "<b>" not in body
    assert "](http" not in body


def test_sizes_have_the_hub_s_words() -> None:
    assert [size_category(rows) for rows in (1, 999, 1_000, 99_999, 10**8)] == [
        "n<1K", "n<1K", "1K<n<10K", "10K<n<100K", "n>10M"
    ]  # fmt: skip


def test_no_rows_are_no_data_set(tmp_path) -> None:
    with pytest.raises(SourceError, match="no rows"):
        write_dataset_folder(tmp_path / "hub", [], name="set")
    assert not (tmp_path / "hub").exists()

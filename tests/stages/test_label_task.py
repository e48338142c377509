"""A run on labelled texts: the negatives of a text are the labels that it does not have, graded by measurement."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

from tests.conftest import SUBJECTS

from multigrain.config.file import parse_config
from multigrain.dataset.store import open_examples, read_rows
from multigrain.llm.session.journal import Journal
from multigrain.stages import run_stages
from multigrain.storage.rundir import RunDirectory


def test_other_labels_are_graded_negatives_and_only_rare_labels_are_written_for(
    tmp_path: Path, small_bert: Path
) -> None:
    labels = [{"label": name, "description": f"all of the {name} w{number}"} for number, name in enumerate(SUBJECTS)]
    texts = [
        {"text": f"{SUBJECTS[number % 9]} w{number} w{number * 2 + 1}", "label": [SUBJECTS[number % 9]]}
        for number in range(72)
    ]
    texts += [{"text": f"valley w{number} river w{199 - number}", "label": ["valley", "river"]} for number in range(9)]
    for name, rows in (("labels", labels), ("texts", texts)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    values = {
        "start_from": "pairs",
        "pairs": {
            "path": str(tmp_path / "texts.jsonl"),
            "labels": str(tmp_path / "labels.jsonl"),
            "texts_per_label": 8,
        },
        "llm": {"provider": "scripted"},
        "synthesis": {"strategy": "mined-bands"},
        "audit": {"min_level_gap": 0.0},
        "training": {"base_model": str(small_bert), "max_seq_length": 32, "precision": "float32"},
    }

    run_stages(parse_config(values), tmp_path / "run", ["documents", "synthesis", "audit"])

    run = RunDirectory(tmp_path / "run")
    described = {row["description"]: row["label"] for row in labels}
    own = {row["text"]: set(row["label"]) for row in texts}
    rows = {row.id: row for row in read_rows(run.rows_path)}
    examples = list(open_examples(run.dataset_path))
    given = [example for example in examples if rows[example.id].given]
    assert len(given) > 40
    for example in given:
        negatives = [described[negative.text] for negative in example.negatives]
        assert own[example.query].isdisjoint(negatives)
        assert described[example.positive] in own[example.query]
        similarities = [negative.similarity for negative in example.negatives]
        assert all(easier <= harder for easier, harder in itertools.pairwise(similarities))
    # However near they are: with the usual check, few rows of an untuned model would be kept.
    assert any(example.negatives[3].similarity > example.positive_similarity for example in given)
    several = [example for example in given if len(own[example.query]) == 2]
    assert all(len(example.further_positives) == 1 for example in several)
    assert several
    with Journal(run.journal_path) as journal:
        asked = list(journal.entries())
    written = [row for row in rows.values() if not row.given]
    assert len(asked) == len(written) > 0  # a call for each text that was missing
    assert all("Texts are sorted under these labels" in entry.request["messages"][-1]["content"] for entry in asked)

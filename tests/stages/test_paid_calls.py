"""What an estimate says beforehand, beside what an endpoint then counts: no paid call of a run is left out."""

from __future__ import annotations

import copy
import json
import random
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.stages.chat_endpoint import ChatEndpoint, graded_answer, run_values
from typer.testing import CliRunner

from multigrain.cli.main import app
from multigrain.config.file import parse_config
from multigrain.dataset.store import open_examples
from multigrain.llm.prices import about_text_tokens
from multigrain.llm.session.usage import read_usage
from multigrain.stages.run import run_stages
from multigrain.storage.rundir import RunDirectory
from multigrain.teachers.models import JudgeTeacher
from multigrain.tools.synthesis_estimate import Estimate, dry_run

pytestmark = pytest.mark.usefixtures("api_key")

STAGES = ["documents", "synthesis", "audit", "teachers"]
SERVED = "openai:embedder@{url}"
KEPT = {"judge": {}, "false_negatives": "keep-as-positive"}
CASES: dict[str, dict[str, Any]] = {
    "rows alone": {},
    "held-out queries, judged": {"audit": {"query_judge": {}}, "evaluation": {"queries": "synthetic"}},
    "a judge in the audit": {"audit": {"judge": {}}},
    "a judge with a limit": {"audit": {"judge": {"max_passages": 40}}},
    "further positives": {"audit": KEPT, "evaluation": {"queries": "synthetic"}},
    "further positives, queries judged": {
        "audit": {**KEPT, "query_judge": {}},
        "evaluation": {"queries": "synthetic"},
    },
    "asked again": {
        "audit": {"repair": ["relevel", "regenerate", "refill"], "min_level_gap": 0.03, "regenerate_budget": None},
    },
    "a judge as teacher": {"training": {"loss": "graded", "teacher": "judge"}},
    "a judge of probabilities": {
        "audit": {"judge": {}},
        "training": {"loss": "distil", "teacher": {"model": "judge", "probabilities": True}},
    },
    "a judge for both": {"audit": {"judge": {"max_passages": 50}}, "training": {"loss": "distil", "teacher": "judge"}},
    "a judge for both, all kept": {"audit": KEPT, "training": {"loss": "distil", "teacher": "judge"}},
    "an embedder": {"training": {"loss": "distil", "teacher": SERVED}},
    "an embedder, mined": {"audit": {"negatives": "mined"}, "training": {"loss": "distil", "teacher": SERVED}},
    "both": {
        "audit": {**KEPT, "candidates": 3},
        "training": {
            "loss": "distil",
            "teacher": ["judge", {"model": SERVED, "prompts": {"query": "query: ", "document": "passage: "}}],
        },
    },
    "another embedder for each candidate": {
        "training": {
            "loss": "distil",
            "teacher": SERVED,
            "candidates": {"one": {}, "two": {"teacher": [SERVED, "openai:other@{url}"]}},
        }
    },
}


def _answer(body: dict[str, Any]) -> str:
    """Rows as ever; judges that turn away much, and not always the same."""
    prompt = body["messages"][-1]["content"]
    if "How well does the passage answer" in prompt:
        return json.dumps({"score": random.Random(prompt).choice([0, 2, 3, 4, 4, 5, 5])})
    if "four fields, each a whole number" in prompt:
        return json.dumps(dict.fromkeys(("self_contained", "natural", "one_intent", "answered"), 9))
    return graded_answer(body) if "JSON" in prompt else " ".join(prompt.split()[1:5])


def _usage(body: dict[str, Any]) -> dict[str, int]:
    read = sum(about_text_tokens(message["content"]) + 4 for message in body["messages"])
    return {"prompt_tokens": read, "completion_tokens": min(body["max_tokens"], 20)}


def _values(corpus: Path, model: Path, url: str, changes: dict[str, Any]) -> dict[str, Any]:
    values = run_values(corpus, model, url, prices={"m": {"prompt": 1.0, "completion": 2.0}})
    values["evaluation"]["queries"] = "titles"
    if "candidates" not in changes.get("training", {}):
        values["training"]["candidates"] = {"tuned": {}}
    for section, own in copy.deepcopy(changes).items():
        values[section] |= own
    return json.loads(json.dumps(values).replace("{url}", url))


def _counted(run: RunDirectory) -> Counter[str]:
    with sqlite3.connect(run.journal_path) as connection:
        found = connection.execute("SELECT strategy, count(*) FROM completions GROUP BY strategy").fetchall()
    connection.close()
    return Counter(dict(found))


def _is_bound(estimate: Estimate, run: RunDirectory, endpoint: ChatEndpoint) -> None:
    counted = _counted(run)
    assert counted.total() == len(endpoint.prompts) <= estimate.requests_at_most
    for name, count in counted.items():
        assert count <= estimate.strategies[name].requests_at_most, name
    assert sum(part.requests for part in estimate.embeddings.values()) >= len(endpoint.embedded)
    texts = [text for texts in endpoint.embedded for text in texts]
    assert sum(part.texts for part in estimate.embeddings.values()) >= len(texts)
    assert sum(part.tokens for part in estimate.embeddings.values()) >= sum(map(about_text_tokens, texts))
    assert bool(estimate.embeddings) == bool(texts)


@pytest.mark.parametrize("case", CASES)
def test_an_estimate_is_never_below_what_an_endpoint_counts(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: ChatEndpoint, case: str
) -> None:
    endpoint.answer, endpoint.usage = _answer, _usage
    config = parse_config(_values(corpus_file, small_bert, endpoint.url, CASES[case]))

    estimate = dry_run(config, tmp_path / "run")
    assert endpoint.prompts == endpoint.embedded == []
    run = run_stages(config, tmp_path / "run", STAGES)

    _is_bound(estimate, run, endpoint)
    counts = json.loads(run.audit_path.read_text(encoding="utf-8"))
    assert estimate.cost_at_most is not None
    assert counts["cost"] <= estimate.cost_at_most
    assert estimate.requests <= estimate.requests_at_most
    assert set(estimate.unpriced) == set(estimate.embeddings)
    if case.startswith("further positives"):
        assert counts["heldout_further_positives"] > 0


def test_answers_that_were_given_are_in_the_bound_too(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: ChatEndpoint
) -> None:
    endpoint.answer, endpoint.usage = _answer, _usage
    texts = [json.loads(line)["text"] for line in corpus_file.read_text(encoding="utf-8").splitlines()]
    pairs = [{"query": " ".join(texts[n].split()[2:6]), "positive": texts[n : n + 4]} for n in range(0, 60, 3)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    values = _values(corpus_file, small_bert, endpoint.url, CASES["both"])
    values |= {
        "start_from": "pairs",
        "pairs": {"path": str(tmp_path / "pairs.jsonl")},
        "documents": {"validation_share": 0.2, "test_share": 0.2},
        "evaluation": {},
    }
    config = parse_config(values)

    estimate = dry_run(config, tmp_path / "run")
    run = run_stages(config, tmp_path / "run", STAGES)

    _is_bound(estimate, run, endpoint)
    rows = [row for path in run.path.glob("teachers/*/graded.parquet") for row in open_examples(path)]
    assert any(len(row.further_positives) > 2 for row in rows)


def test_lists_of_tasks_are_counted_for_every_round(tmp_path: Path, small_bert: Path) -> None:
    values: dict[str, Any] = {
        "start_from": "tasks",
        "llm": {"provider": "scripted"},
        "tasks": {"count": 10, "rows": 12, "per_request": 3},
        "training": {"base_model": str(small_bert)},
    }
    config = parse_config(values)

    estimate = dry_run(config, tmp_path / "run")
    run = run_stages(config, tmp_path / "run", STAGES[:2])

    counted = _counted(run)
    first = estimate.strategies["brainstorm"]
    assert first.requests_at_most == config.tasks.rounds * first.requests
    for name, count in counted.items():
        assert count <= estimate.strategies[name].requests_at_most, name


def test_an_embedders_tokens_are_in_the_cost_of_the_run_and_are_counted_over_an_interruption(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: ChatEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = _values(corpus_file, small_bert, endpoint.url, CASES["both"])
    values["llm"]["prices"]["embedder"] = {"prompt": 50.0, "completion": 0.0}
    values["training"]["teacher"] = values["training"]["teacher"][::-1]  # the judge is asked last
    values["audit"] = {key: value for key, value in values["audit"].items() if key not in KEPT}
    endpoint.answer, endpoint.usage = _answer, _usage
    config = parse_config(values)
    run = run_stages(config, tmp_path / "run", STAGES[:3])

    def stopped(self: JudgeTeacher, pairs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(JudgeTeacher, "scores", stopped)
        with pytest.raises(KeyboardInterrupt):
            run_stages(config, tmp_path / "run", STAGES)
    assert endpoint.embedded
    run_stages(config, tmp_path / "run", STAGES)

    (path,) = run.path.glob("teachers/*/manifest.json")
    counts = json.loads(path.read_text(encoding="utf-8"))["counts"]
    (usage,) = counts["embeddings"].values()
    words = sum(len(text.split()) for texts in endpoint.embedded for text in texts)
    assert usage == {"requests": len(endpoint.embedded), "tokens": words, "cost": pytest.approx(50e-6 * words)}
    assert counts["cost"] == pytest.approx(read_usage(run, config).cost + usage["cost"], abs=1e-5)


def test_an_embedder_costs_what_its_price_says_and_is_named_where_nobody_knows_it(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: ChatEndpoint
) -> None:
    values = _values(corpus_file, small_bert, endpoint.url, CASES["an embedder"])
    unknown = dry_run(parse_config(values), tmp_path / "run")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    command = ["synthesize", str(tmp_path / "config.yaml"), "--run", str(tmp_path / "run"), "--dry-run"]
    told = CliRunner().invoke(app, command).stdout
    assert "embeddings  at most 434 texts of" in told
    assert f"nobody knows what openai:embedder@{endpoint.url} costs, which is left out" in told
    values["llm"]["prices"]["embedder"] = {"prompt": 50.0, "completion": 0.0}
    known = dry_run(parse_config(values), tmp_path / "run")

    (name,) = known.embeddings
    assert unknown.unpriced == (name,) == (f"openai:embedder@{endpoint.url}",)
    assert known.unpriced == ()
    assert unknown.cost is not None
    assert unknown.embeddings[name].cost is None
    paid = known.embeddings[name].cost
    assert paid == pytest.approx(50e-6 * known.embeddings[name].tokens)
    assert known.cost == pytest.approx(unknown.cost + paid)

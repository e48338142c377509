"""A ranking of few-shot examples by how likely they make a local model find the others' answers.

Demonstrations under which a language model predicts the answers of a task best are those that tell it most about
the task's latent concept (arXiv 2301.11916, which learns tokens for the concept first: **notes**). Here the model
is asked directly: each example is shown to it, and the known queries of some other examples are scored: **ours**.
What counts is by how much they become likelier than with no example shown, as some queries are likelier than others
whatever is shown, and no example is judged by its own. A small local model ranks, whichever model writes.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from statistics import fmean
from typing import Final, Protocol

from multigrain.config import Config, fingerprint
from multigrain.display.progress import Progress, SilentProgress
from multigrain.engine.local import LocalEngine
from multigrain.engine.protocol import Engine
from multigrain.errors import ConfigError, LLMError
from multigrain.llm.protocol import CompletionFailure, CompletionRequest
from multigrain.records import Document
from multigrain.storage.files import atomic_write
from multigrain.storage.rundir import RunDirectory
from multigrain.synthesis.few_shot import Demonstration, FixedSelector, few_shot_fingerprint, read_demonstrations
from multigrain.synthesis.strategies.protocol import WritingUnit
from multigrain.synthesis.strategies.writer import Writer

_RANKED: Final = "few_shot.json"
_FORMAT: Final = 1
_PROBES: Final = 6
_DOCUMENT_CHARACTERS: Final = 1200
"""Two documents and the queries fit a small model's context."""


class Scorer(Protocol):
    """A model that can tell how likely it finds an answer."""

    async def log_likelihood(self, request: CompletionRequest, answer: str) -> float:
        """Natural logarithm of the probability that the model gives an answer to a request."""
        ...


def ranked_examples(
    config: Config, run: RunDirectory, *, ask: bool, progress: Progress | None = None
) -> Sequence[Demonstration] | None:
    """The few-shot examples, best first; None where they are shown in their file's order. See `run_strategy`."""
    synthesis = config.synthesis
    if synthesis.few_shot != "likelihood" or synthesis.few_shot_path is None:
        return None
    examples = read_demonstrations(synthesis.few_shot_path)
    path = run.path / "synthesis" / _RANKED
    key = fingerprint(_FORMAT, few_shot_fingerprint(config), synthesis.few_shot_model, config.seed)
    ranking = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if ranking.get("key") == key:
        return [Demonstration.model_validate(entry["example"]) for entry in ranking["ranked"]]
    if not ask:
        return examples
    scored = _rank(config, examples, progress or SilentProgress())
    entries = [
        {"score": round(score, 6), "example": example.model_dump(mode="json", exclude_none=True)}
        for example, score in scored
    ]
    atomic_write(path, json.dumps({"key": key, "ranked": entries}, ensure_ascii=False, indent=1))
    return [example for example, _ in scored]


def rank_by_likelihood(
    demonstrations: Sequence[Demonstration], scorer: Scorer, engine: Engine, *, seed: int, probes: int = _PROBES
) -> list[tuple[Demonstration, float]]:
    """The examples, best first, each with its score.

    The score is the mean gain in log-likelihood of the other queries over showing nothing, per character.

    Args:
        demonstrations: each with a query; the order decides between equals.
        scorer: the model.
        engine: where it is asked.
        seed: decides which of the others are probes.
        probes: how many other queries an example is judged by (by one more where it is no probe itself).

    Raises:
        ConfigError: fewer than two examples have a query.
    """
    with_query = [demonstration for demonstration in demonstrations if demonstration.query is not None]
    if len(with_query) < 2:
        raise ConfigError(
            "few_shot: likelihood ranks examples by each other's queries, "
            f"and {len(with_query)} of {len(demonstrations)} examples have one: give at least two"
        )

    # The same few judge everybody, as far as nobody judges itself.
    judges = sorted(range(len(with_query)), key=lambda number: random.Random(f"{seed}:{number}").random())[
        : probes + 1
    ]

    async def likelihood(pair: tuple[int | None, int]) -> float:
        shown, judge = pair
        query = with_query[judge].query or ""
        request = _request(None if shown is None else with_query[shown], with_query[judge])
        return await scorer.log_likelihood(request, query) / len(query)

    pairs = [(shown, judge) for shown in (None, *range(len(with_query))) for judge in judges if shown != judge]
    likelihoods: dict[tuple[int | None, int], float] = {}
    for outcome in engine.map(likelihood, pairs):
        if outcome.failure is not None:
            raise outcome.failure.error
        if outcome.value is not None:
            likelihoods[outcome.unit] = outcome.value
    scores = {
        place: fmean(likelihoods[place, judge] - likelihoods[None, judge] for judge in judges if judge != place)
        for place in range(len(with_query))
    }
    order = sorted(scores, key=lambda place: (-scores[place], place))
    return [(with_query[place], scores[place]) for place in order]


def _rank(config: Config, examples: Sequence[Demonstration], progress: Progress) -> list[tuple[Demonstration, float]]:
    from multigrain.llm.local.runtime import LocalLLM

    scorer = LocalLLM(
        config.synthesis.few_shot_model, runtime=config.llm.runtime, concurrency=2, threads=config.llm.threads
    )
    with (
        LocalEngine(concurrency=2) as engine,
        progress.task(f"Ranking {len(examples)} few-shot examples", None),
    ):
        try:
            return rank_by_likelihood(examples, scorer, engine, seed=config.seed)
        except CompletionFailure as failure:
            raise LLMError(
                f"synthesis.few_shot_model {config.synthesis.few_shot_model}: cannot rank the examples ({failure}): "
                "shorten their documents, or set synthesis.few_shot: fixed"
            ) from None
        finally:
            engine.run(scorer.aclose())


def _request(shown: Demonstration | None, probe: Demonstration) -> CompletionRequest:
    """The prompt for one example's query, with another example before it, or none."""
    few_shot = None if shown is None else FixedSelector((shown,), 1)
    writer = Writer(document_characters=_DOCUMENT_CHARACTERS, temperature=0.0, few_shot=few_shot)
    return writer.request(WritingUnit(Document("probe", probe.document)), "query", shows="query", max_tokens=1)

"""The strategy of a run, few-shot examples ranked where the config asks for that."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from multigrain.config import Config, fingerprint
from multigrain.display.progress import Progress, SilentProgress
from multigrain.engine.local import LocalEngine
from multigrain.errors import LLMError
from multigrain.llm.protocol import CompletionFailure
from multigrain.storage.files import atomic_write
from multigrain.storage.rundir import RunDirectory
from multigrain.synthesis.few_shot import Demonstration, read_demonstrations
from multigrain.synthesis.likelihood import rank_by_likelihood
from multigrain.synthesis.strategies.from_task import for_tasks
from multigrain.synthesis.strategies.protocol import Strategy
from multigrain.synthesis.synthesize import build_strategy

_RANKED: Final = "few_shot.json"
_FORMAT: Final = 1


def run_strategy(config: Config, run: RunDirectory, *, ask: bool, progress: Progress | None = None) -> Strategy:
    """The strategy that a config names.

    Args:
        config: the run's.
        run: keeps the ranking of few-shot examples, so that it is made once.
        ask: whether a local model may be asked for that ranking; without it examples that nobody has ranked yet
            stay in the order of their file, which is good enough for an estimate.
        progress: who is told.

    Raises:
        ConfigError: a strategy or few-shot examples that cannot be used.
        MissingExtraError, ModelError, LLMError: examples are to be ranked, and the local model cannot be used.
    """
    synthesis = config.synthesis
    examples = ranked_examples(config, run, ask=ask, progress=progress)
    strategy = build_strategy(synthesis, config.llm, seed=config.seed, demonstrations=examples)
    if config.start_from == "tasks":
        return for_tasks(strategy, synthesis, config.llm, seed=config.seed)
    return strategy


def ranked_examples(
    config: Config, run: RunDirectory, *, ask: bool, progress: Progress | None = None
) -> Sequence[Demonstration] | None:
    """The few-shot examples, best first; None where they are shown in the order of their file. See `run_strategy`."""
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


def few_shot_fingerprint(config: Config) -> str:
    """Changes when the few-shot examples do; empty where none are shown.

    Raises:
        ConfigError: the file cannot be used.
    """
    synthesis = config.synthesis
    if synthesis.few_shot == "none" or synthesis.few_shot_path is None:
        return ""
    return fingerprint([example.model_dump(mode="json") for example in read_demonstrations(synthesis.few_shot_path)])


def _rank(config: Config, examples: Sequence[Demonstration], progress: Progress) -> list[tuple[Demonstration, float]]:
    from multigrain.llm.local import LocalLLM

    scorer = LocalLLM(config.synthesis.few_shot_model, concurrency=2, threads=config.llm.threads)
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

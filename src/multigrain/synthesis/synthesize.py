"""From documents to written rows. Knows neither the journal nor the engine's insides: both come in as arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from multigrain.config import LLMConfig, SynthesisConfig
from multigrain.engine.protocol import Engine, Outcome
from multigrain.llm.protocol import LLMClient
from multigrain.records import SynthesizedRow
from multigrain.synthesis.few_shot import Demonstration, build_selector
from multigrain.synthesis.strategies.protocol import Strategy, WritingUnit
from multigrain.synthesis.strategies.registry import build_named
from multigrain.synthesis.strategies.writer import StrategySettings, Writer


def build_strategy(
    synthesis: SynthesisConfig,
    llm: LLMConfig,
    *,
    seed: int,
    demonstrations: Sequence[Demonstration] | None = None,
) -> Strategy:
    """The strategy, or the mix of them, that a config names.

    Args:
        synthesis: the config's section.
        llm: the config's section.
        seed: the run's.
        demonstrations: the few-shot examples, best first, where they are ranked; None reads the config's file.

    Raises:
        ConfigError: a name that no strategy has, or few-shot examples that cannot be used.
    """
    few_shot = build_selector(synthesis, seed=seed, demonstrations=demonstrations)
    writer = Writer.from_config(synthesis, llm, seed=seed, few_shot=few_shot)
    return build_named(StrategySettings(synthesis, llm, seed, writer))


def synthesize(
    units: Sequence[WritingUnit],
    strategy: Strategy,
    client: LLMClient,
    engine: Engine,
    *,
    budget_seconds: float | None = None,
    stop: Callable[[], bool] | None = None,
) -> Iterator[Outcome[WritingUnit, SynthesizedRow]]:
    """Write rows, yielding each as it is done. A row that fails costs only itself.

    Args:
        units: what to write.
        strategy: how.
        client: the model; a journaled one makes the work resumable.
        engine: where the work runs.
        budget_seconds: start no further row after this long.
        stop: asked before each row; True starts no further one.

    Raises:
        LLMError: the model cannot be used at all.
    """

    async def write(unit: WritingUnit) -> SynthesizedRow:
        row = await strategy.write(unit, client)
        return replace(
            row,
            query=row.query if unit.query is None else unit.query,
            query_type=row.query_type or (unit.style.query_type if unit.query is None else None),
            relevant_ids=unit.relevant_ids,
            given=unit.query is not None,
        )

    return engine.map(write, units, budget_seconds=budget_seconds, stop=stop)

"""The strategy that a config names, and rows written by it. The journal and the engine come in as arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from multigrain.config import Config, LLMConfig, SynthesisConfig
from multigrain.config.synthesis import STRATEGIES
from multigrain.display.progress import Progress
from multigrain.engine.protocol import Engine, Outcome
from multigrain.errors import ConfigError
from multigrain.llm.protocol import LLMClient
from multigrain.records import SynthesizedRow
from multigrain.storage.rundir import RunDirectory
from multigrain.synthesis.few_shot import Demonstration, build_selector
from multigrain.synthesis.lead_ins import bare, without_announcement
from multigrain.synthesis.likelihood import ranked_examples
from multigrain.synthesis.plain_text import check_query
from multigrain.synthesis.strategies.from_task import for_tasks
from multigrain.synthesis.strategies.mix import MixedStrategy
from multigrain.synthesis.strategies.protocol import Strategy, WritingUnit
from multigrain.synthesis.strategies.writer import StrategySettings, Writer
from multigrain.synthesis.style import StyleQueries


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
        ConfigError: a name that no strategy has, a plug-in that is none, or few-shot examples that cannot be used.
    """
    few_shot = build_selector(synthesis, seed=seed, demonstrations=demonstrations)
    writer = Writer.from_config(synthesis, llm, seed=seed, few_shot=few_shot)
    weights = synthesis.strategy_weights
    members = {name: _build(name, StrategySettings(synthesis, llm, seed, writer)) for name in weights}
    if len(members) == 1:
        return next(iter(members.values()))
    return MixedStrategy.weighted(members, weights, seed=seed)


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


def synthesize(
    units: Iterable[WritingUnit],
    strategy: Strategy,
    client: LLMClient,
    engine: Engine,
    *,
    budget_seconds: float | None = None,
    stop: Callable[[], bool] | None = None,
    style: StyleQueries | None = None,
) -> Iterator[Outcome[WritingUnit, SynthesizedRow]]:
    """Write rows, yielding each as it is done. A row that fails costs only itself.

    Args:
        units: what to write.
        strategy: how.
        client: the model; a journaled one makes the work resumable.
        engine: where the work runs.
        budget_seconds: start no further row after this long.
        stop: asked before each row; True starts no further one.
        style: queries of the user's own that no written one may repeat.

    Raises:
        LLMError: the model cannot be used at all.
    """

    async def write(unit: WritingUnit) -> SynthesizedRow:
        return await write_row(unit, strategy, client, style=style)

    return engine.map(write, units, budget_seconds=budget_seconds, stop=stop)


async def write_row(
    unit: WritingUnit, strategy: Strategy, client: LLMClient, *, style: StyleQueries | None = None
) -> SynthesizedRow:
    """Write one row, as `synthesize` does.

    Args:
        unit: what to write.
        strategy: how.
        client: the model.
        style: queries of the user's own that no written one may repeat.

    Raises:
        CompletionFailure: this row came to nothing.
        LLMError: the model cannot be used at all.
    """
    row = _checked(await strategy.write(unit, client), unit)
    if style is not None and unit.query is None:
        style.check(row.query)
    return replace(
        row,
        query=row.query if unit.query is None else unit.query,
        query_type=row.query_type or (unit.style.query_type if unit.query is None else None),
        relevant_ids=unit.relevant_ids,
        given=unit.query is not None,
        task=row.task if unit.label is None else f"Find the label of a text: {unit.label.name}",
    )


def _checked(row: SynthesizedRow, unit: WritingUnit) -> SynthesizedRow:
    """A row as it was written, without what announces its texts.

    Raises:
        UnusableAnswer: its query is the model's thoughts.
    """
    query = without_announcement(row.query)
    if unit.query is None:
        check_query(query, unit.document.text)
    return replace(
        row,
        query=bare(query) or query if "\n" not in query else query,
        negatives={level: without_announcement(text) for level, text in row.negatives.items()},
        candidates={
            level: tuple(without_announcement(text) for text in texts) for level, texts in row.candidates.items()
        },
    )


def _build(name: str, settings: StrategySettings) -> Strategy:
    factory = STRATEGIES.get(name)
    if not callable(factory):
        raise ConfigError(
            f"{STRATEGIES.named_by} {name!r}: its entry point names a {type(factory).__name__}, which is no callable "
            "that is given StrategySettings and returns a Strategy"
        )
    strategy: Strategy = factory(settings)
    if not isinstance(getattr(strategy, "name", None), str) or not callable(getattr(strategy, "write", None)):
        raise ConfigError(
            f"{STRATEGIES.named_by} {name!r}: built a {type(strategy).__name__}, which has no `name` and `write`: see "
            "multigrain.synthesis.strategies.protocol.Strategy"
        )
    return strategy

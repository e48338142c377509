"""Strategies by name: the built-in ones, and those of other packages.

A package adds a strategy with an entry point:

    [project.entry-points."multigrain.strategies"]
    my-strategy = "my_package.strategy:build"

`build` is given `StrategySettings` and returns a `Strategy`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Final, TypeAlias

from multigrain.config import STRATEGY_GROUP, strategy_entry_points
from multigrain.errors import ConfigError
from multigrain.synthesis.strategies.mix import MixedStrategy
from multigrain.synthesis.strategies.protocol import Strategy
from multigrain.synthesis.strategies.writer import StrategySettings

__all__ = ["BUILT_IN_STRATEGIES", "StrategyFactory", "build_named", "find_strategy"]

StrategyFactory: TypeAlias = Callable[[StrategySettings], Strategy]
"""Builds a strategy from the config."""

_PACKAGE: Final = "multigrain.synthesis.strategies"
BUILT_IN_STRATEGIES: Final = {
    "counterfactual": "counterfactual:CounterfactualStrategy",
    "hybrid": "hybrid:HybridStrategy",
    "mgh": "mgh:MghStrategy",
    "mgh-levels": "mgh_levels:MghLevelsStrategy",
    "mined": "mined:MinedStrategy",
    "mined-bands": "mined_bands:MinedBandsStrategy",
    "over-generate": "over_generate:OverGenerateStrategy",
    "paraphrase": "paraphrase:ParaphraseStrategy",
    "ranking-chain": "ranking_chain:RankingChainStrategy",
    "single": "single:SingleStrategy",
    "stepwise": "stepwise:StepwiseStrategy",
}
"""Name to module and class."""


def find_strategy(name: str) -> StrategyFactory:
    """The factory of a strategy.

    Raises:
        ConfigError: no strategy has this name, or the package that has it cannot be imported.
    """
    if name in BUILT_IN_STRATEGIES:
        module, kind = BUILT_IN_STRATEGIES[name].split(":")
        factory: StrategyFactory = getattr(import_module(f"{_PACKAGE}.{module}"), kind).from_settings
        return factory
    found = strategy_entry_points().get(name)
    if found is None:
        known = ", ".join(sorted({*BUILT_IN_STRATEGIES, *strategy_entry_points()}))
        raise ConfigError(f"synthesis.strategy {name!r}: no strategy has this name; there are {known}")
    try:
        loaded = found.load()
    except Exception as error:  # whatever a foreign module does at import
        raise ConfigError(
            f"synthesis.strategy {name!r}: entry point {found.value!r} of group {STRATEGY_GROUP} cannot be loaded "
            f"({type(error).__name__}: {error})"
        ) from error
    if not callable(loaded):
        raise ConfigError(f"synthesis.strategy {name!r}: {found.value!r} is no callable that builds a strategy")
    foreign: StrategyFactory = loaded
    return foreign


def build_named(settings: StrategySettings) -> Strategy:
    """The strategy, or the mix, that a config names.

    Raises:
        ConfigError: a name that no strategy has.
    """
    weights = settings.synthesis.strategy_weights
    members = {name: _build(name, settings) for name in weights}
    if len(members) == 1:
        return next(iter(members.values()))
    return MixedStrategy.weighted(members, weights, seed=settings.seed)


def _build(name: str, settings: StrategySettings) -> Strategy:
    strategy = find_strategy(name)(settings)
    if not isinstance(getattr(strategy, "name", None), str) or not callable(getattr(strategy, "write", None)):
        raise ConfigError(
            f"synthesis.strategy {name!r}: built a {type(strategy).__name__}, which has no `name` and `write`: "
            "see multigrain.synthesis.strategies.protocol.Strategy"
        )
    return strategy

"""Building the strategy, or the mix of strategies, that a config names."""

from __future__ import annotations

from multigrain.config.synthesis import STRATEGIES
from multigrain.errors import ConfigError
from multigrain.synthesis.strategies.mix import MixedStrategy
from multigrain.synthesis.strategies.protocol import Strategy
from multigrain.synthesis.strategies.writer import StrategySettings


def build_named(settings: StrategySettings) -> Strategy:
    """The strategy, or the mix, that a config names.

    Raises:
        ConfigError: a name that no strategy has, or something that is none.
    """
    weights = settings.synthesis.strategy_weights
    members = {name: _build(name, settings) for name in weights}
    if len(members) == 1:
        return next(iter(members.values()))
    return MixedStrategy.weighted(members, weights, seed=settings.seed)


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

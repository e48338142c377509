"""Whether what an embedder behind an endpoint would read fits into the run's limit on dollars.

Embedders are asked in few, large requests at prices that are small beside a language model's, so that the whole is
estimated before it is sent, by the length of the texts, and not counted while it is under way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from multigrain.config import Config, PriceConfig
from multigrain.encoders.journaled import JournaledEncoder
from multigrain.encoders.served import SERVED, EmbeddingUsage, served_name
from multigrain.errors import ConfigError
from multigrain.llm.prices import about_text_tokens, cost_of, price_of
from multigrain.llm.session.usage import read_usage
from multigrain.stages.base import RunContext
from multigrain.storage.rundir import RunDirectory

_WORTH_SAYING: Final = 64  # texts


def allow_embedding(context: RunContext, reference: str, journal: JournaledEncoder, texts: Sequence[str]) -> None:
    """Say what the run's base model, behind an endpoint, is about to read, and see that it fits into the limit.

    Args:
        context: the run.
        reference: the base model.
        journal: what it has read so far.
        texts: what it is about to read.

    Raises:
        ConfigError: it does not fit.
    """
    config = context.config
    price, spent = base_price(config), base_cost(config, journal.usage)
    if words := too_dear(config, context.run, reference, texts, spent=spent or 0.0):
        raise ConfigError(f"training.base_model: {words}; what was embedded is kept")
    if len(texts) < _WORTH_SAYING:
        return
    tokens = sum(map(about_text_tokens, texts))
    cost = "" if price is None else f", about ${cost_of(price, prompt_tokens=tokens, completion_tokens=0):.4f}"
    context.progress.say(f"{reference} embeds {len(texts):,} texts: about {tokens:,} tokens{cost}")


def base_price(config: Config) -> PriceConfig | None:
    """The price of the base model's tokens, by `llm.prices` or the built-in table.

    None where nobody has said, and for a model that runs here.
    """
    reference = config.training.base_model
    if not reference.startswith(SERVED):
        return None
    name, address = served_name(reference)
    return price_of(name, base_url=address, prices=config.llm.prices)


def base_cost(config: Config, usage: EmbeddingUsage) -> float | None:
    """US dollars for what the base model has embedded; None where its price is unknown."""
    price = base_price(config)
    return None if price is None else cost_of(price, prompt_tokens=usage.tokens, completion_tokens=0)


def too_dear(config: Config, run: RunDirectory, reference: str, texts: Iterable[str], *, spent: float = 0.0) -> str:
    """Why what a model would read does not fit, in words; empty where it does, or no limit or no price is known.

    Args:
        config: the run's, with its limit and prices.
        run: what was paid for already.
        reference: the model; one that is not behind an endpoint costs nothing.
        texts: what it would read; not looked at without a limit.
        spent: dollars that are in no manifest yet.
    """
    limit = config.synthesis.max_cost
    if limit is None or not reference.startswith(SERVED):
        return ""
    name, address = served_name(reference)
    price = price_of(name, base_url=address, prices=config.llm.prices)
    if price is None:
        return ""
    cost = cost_of(price, prompt_tokens=sum(map(about_text_tokens, texts)), completion_tokens=0)
    left = limit - _paid(config, run) - spent
    if cost <= left:
        return ""
    return (
        f"{reference} would read for about ${cost:.4f}, and ${max(left, 0):.4f} are left of the run's limit of "
        f"${limit:g}; raise it (--max-cost, or synthesis.max_cost)"
    )


def _paid(config: Config, run: RunDirectory) -> float:
    """Dollars for language models and for teachers that embed, as far as prices are known."""
    embedded = [
        each.get("cost") or 0.0
        for manifest in run.manifests()
        for each in manifest.counts.get("embeddings", {}).values()
    ]
    return (read_usage(run, config).cost or 0.0) + sum(embedded)

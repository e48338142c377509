"""Whether what an embedder behind an endpoint would read fits into the run's limit on dollars.

Embedders are asked in few, large requests at prices that are small beside a language model's, so that the whole is
estimated before it is sent, by the length of the texts, and not counted while it is under way.
"""

from __future__ import annotations

from collections.abc import Iterable

from multigrain.config import Config
from multigrain.encoders.served import SERVED, served_name
from multigrain.llm.prices import about_text_tokens, cost_of, price_of
from multigrain.llm.session.usage import read_usage
from multigrain.storage.rundir import RunDirectory


def too_dear(config: Config, run: RunDirectory, reference: str, texts: Iterable[str]) -> str:
    """Why what a model would read does not fit, in words; empty where it does, or no limit or no price is known.

    Args:
        config: the run's, with its limit and prices.
        run: what was paid for already.
        reference: the model; one that is not behind an endpoint costs nothing.
        texts: what it would read; not looked at without a limit.
    """
    limit = config.synthesis.max_cost
    if limit is None or not reference.startswith(SERVED):
        return ""
    name, address = served_name(reference)
    price = price_of(name, base_url=address, prices=config.llm.prices)
    if price is None:
        return ""
    cost = cost_of(price, prompt_tokens=sum(map(about_text_tokens, texts)), completion_tokens=0)
    left = limit - _paid(config, run)
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

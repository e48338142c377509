"""What completions cost. A small built-in table, and the user's own prices before it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from multigrain.config import LLMConfig, PriceConfig
from multigrain.llm.protocol import CompletionRequest

PRICES_AS_OF: Final = "2025-06"
"""When the built-in table was written down. Prices change: what matters belongs in `llm.prices`."""

BYTES_A_TOKEN: Final = 4.0
"""Of English, UTF-8; other languages need more tokens, code some more."""

_MESSAGE_TOKENS: Final = 6
"""What a chat template puts around a message."""

_FREE: Final = PriceConfig(prompt=0, completion=0)

# US dollars per million tokens: prompt, completion, cached prompt.
_BUILT_IN: Final[Mapping[str, tuple[float, float, float]]] = {
    "gpt-4.1": (2.00, 8.00, 0.50),
    "gpt-4.1-mini": (0.40, 1.60, 0.10),
    "gpt-4.1-nano": (0.10, 0.40, 0.025),
    "gpt-4o": (2.50, 10.00, 1.25),
    "gpt-4o-mini": (0.15, 0.60, 0.075),
    "o4-mini": (1.10, 4.40, 0.275),
    # Embedders read alone, and have no prefix cache.
    "text-embedding-3-large": (0.13, 0.0, 0.13),
    "text-embedding-3-small": (0.02, 0.0, 0.02),
    "text-embedding-ada-002": (0.10, 0.0, 0.10),
}


def find_price(config: LLMConfig) -> PriceConfig | None:
    """The price of a config's model; None where nobody has said.

    The local and the scripted model cost nothing. A dated name (`gpt-4o-2024-08-06`) and one with its maker in front
    (`openai/gpt-4o`) have the price of the plain one.
    """
    if config.provider != "openai":
        return config.prices.get(config.model, _FREE)
    return price_of(config.model, base_url=config.base_url, prices=config.prices)


def price_of(model: str, *, base_url: str | None, prices: Mapping[str, PriceConfig]) -> PriceConfig | None:
    """The price of a model behind an endpoint, whichever kind of model it is; None where nobody has said.

    Args:
        model: its name.
        base_url: the endpoint's address; None: $OPENAI_BASE_URL, else OpenAI's.
        prices: the user's own, by name.
    """
    plain = model.rsplit("/", 1)[-1]
    for name in (model, plain):
        if name in prices:
            return prices[name]
    # A price of OpenAI's says nothing of a model of the same name on one's own machines.
    names = [name for name in _BUILT_IN if plain == name or plain.startswith(f"{name}-20")]
    if not names or not _is_hosted(base_url):
        return None
    prompt, completion, cached = _BUILT_IN[names[0]]
    return PriceConfig(prompt=prompt, completion=completion, cached_prompt=cached)


def cost_of(price: PriceConfig, *, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> float:
    """US dollars, of requests that were sent one by one.

    Args:
        price: of the model.
        prompt_tokens: tokens read, cached ones among them.
        completion_tokens: tokens written.
        cached_tokens: those of `prompt_tokens` that came from the endpoint's prefix cache.
    """
    cached_price = price.prompt if price.cached_prompt is None else price.cached_prompt
    cached_tokens = min(cached_tokens, prompt_tokens)
    millionths = (
        (prompt_tokens - cached_tokens) * price.prompt
        + cached_tokens * cached_price
        + completion_tokens * price.completion
    )
    return millionths / 1e6


def about_prompt_tokens(request: CompletionRequest) -> float:
    """About how many tokens a model reads for a request, where no one has counted them."""
    return sum(len(m.content.encode("utf-8", "replace")) / BYTES_A_TOKEN + _MESSAGE_TOKENS for m in request.messages)


def about_tokens(request: CompletionRequest) -> int:
    """About how many tokens a request is, at least one."""
    return max(1, round(about_prompt_tokens(request)))


def about_text_tokens(text: str) -> int:
    """About how many tokens a text is, where no one has counted them; at least one."""
    return max(1, round(len(text.encode("utf-8", "replace")) / BYTES_A_TOKEN))


def _is_hosted(base_url: str | None) -> bool:
    address = base_url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
    return not any(local in address for local in ("//localhost", "//127.", "//10.", "//192.168.", "//[::1]"))

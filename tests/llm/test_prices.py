from __future__ import annotations

import pytest

from multigrain.config import LLMConfig, PriceConfig
from multigrain.llm.prices import cost_of, find_price, price_of
from multigrain.llm.session.records import JournalTotals, TokenSums

OWN = PriceConfig(prompt=1, completion=2, cached_prompt=0.5)


def config(model: str, **settings: object) -> LLMConfig:
    return LLMConfig(provider="openai", model=model, **settings)  # type: ignore[arg-type]


def test_cost() -> None:
    counts = {"prompt_tokens": 1_000_000, "completion_tokens": 500_000}
    assert cost_of(OWN, **counts) == pytest.approx(2.0)
    assert cost_of(OWN, **counts, cached_tokens=400_000) == pytest.approx(1.8)
    assert JournalTotals(**counts, batch=TokenSums(**counts)).cost(OWN) == pytest.approx(1.0)
    assert cost_of(OWN, prompt_tokens=10, completion_tokens=0, cached_tokens=99) == pytest.approx(5e-6)
    plain = PriceConfig(prompt=1, completion=2)
    assert cost_of(plain, **counts, cached_tokens=400_000) == cost_of(plain, **counts)


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    price = find_price(config("gpt-4o-mini"))
    assert price is not None
    assert price.prompt == 0.15
    assert find_price(config("openai/gpt-4o-mini", base_url="https://openrouter.ai/api/v1")) == price
    assert find_price(config("gpt-4o-mini-2024-07-18")) == price
    assert find_price(config("gpt-4o-minister")) is None
    assert find_price(config("gpt-4o-mini", base_url="http://localhost:8000/v1")) is None
    assert find_price(config("my-model")) is None


def test_embedders_have_a_price_where_theirs_is_the_endpoint() -> None:
    found = price_of("text-embedding-3-small", base_url="https://api.openai.com/v1", prices={})
    assert found is not None
    assert (found.prompt, found.completion) == (0.02, 0)
    assert price_of("text-embedding-3-small", base_url="http://localhost:8080/v1", prices={}) is None
    assert price_of("acme/embedder", base_url=None, prices={"embedder": OWN}) == OWN


def test_the_users_price_goes_first() -> None:
    assert find_price(config("gpt-4o-mini", prices={"gpt-4o-mini": OWN})) == OWN
    assert find_price(config("acme/thing", prices={"thing": OWN})) == OWN
    local = find_price(LLMConfig(provider="local"))
    assert local is not None
    assert cost_of(local, prompt_tokens=9, completion_tokens=9) == 0

"""From the config to a client."""

from __future__ import annotations

from multigrain.config import LLMConfig
from multigrain.llm.protocol import LLMClient
from multigrain.llm.scripted import ScriptedLLM

__all__ = ["build_client"]


def build_client(config: LLMConfig, *, seed: int) -> LLMClient:
    """The client that a config names. Nothing is asked or loaded before its first request.

    Args:
        config: the `llm` section.
        seed: of what a client does by chance (how long it waits between attempts); answers are seeded by request.

    Raises:
        ConfigError: the address or the key cannot be right.
        MissingExtraError: the local model needs a package that is not installed.
        ModelError: the local model's reference leads nowhere.
        LLMError: the local model's file cannot be used.
    """
    if config.provider == "scripted":
        return ScriptedLLM()
    if config.provider == "local":
        from multigrain.llm.local import LocalLLM

        return LocalLLM(config.model, concurrency=config.concurrency, threads=config.threads)
    from multigrain.llm.endpoint import find_endpoint
    from multigrain.llm.openai_compatible import OpenAICompatibleLLM

    return OpenAICompatibleLLM(
        config.model,
        find_endpoint(config.base_url, config.api_key_env),
        concurrency=config.concurrency,
        timeout_seconds=config.timeout_seconds,
        max_retries=config.max_retries,
        structured_output=config.structured_output,
        seed=seed,
    )

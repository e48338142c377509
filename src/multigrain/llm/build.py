"""Builds the client that a config names."""

from __future__ import annotations

from dataclasses import dataclass

from multigrain.config import LLMConfig
from multigrain.llm.protocol import LLMClient, openai_identity
from multigrain.llm.retry import Backoff
from multigrain.llm.scripted import ScriptedLLM


def build_client(config: LLMConfig, *, seed: int, backoff: Backoff | None = None) -> LLMClient:
    """The client that a config names. Nothing is asked or loaded before its first request.

    Args:
        config: the `llm` section.
        seed: of what a client does by chance (how long it waits between attempts); answers are seeded by request.
        backoff: an endpoint's waits between attempts; None: the usual ones.

    Raises:
        ConfigError: the address or the key cannot be right.
        MissingExtraError: the local model needs a package that is not installed.
        ModelError: the local model's reference leads nowhere.
        LLMError: the local model's file cannot be used.
    """
    if config.provider == "scripted":
        return ScriptedLLM()
    if config.provider == "local":
        from multigrain.llm.local.runtime import LocalLLM

        return LocalLLM(
            config.model,
            runtime=config.runtime,
            concurrency=config.concurrency,
            threads=config.threads,
            context_tokens=config.context_tokens,
            extra_body=config.extra_body,
        )
    from multigrain.llm.openai_compatible import OpenAICompatibleLLM
    from multigrain.llm.several import SeveralEndpoints

    members = [
        OpenAICompatibleLLM(endpoint, known_as=config.model, backoff=backoff, seed=seed + number)
        for number, endpoint in enumerate(_endpoints(config))
    ]
    return members[0] if len(members) == 1 else SeveralEndpoints(members)


def client_identity(config: LLMConfig) -> str:
    """The identity of a config's client, without needing a key for its endpoint.

    Raises:
        MissingExtraError, ModelError, LLMError: the local model's file cannot be found.
    """
    if config.provider == "openai":
        return openai_identity(config.model, config.extra_body)
    return build_client(config, seed=0).identity


@dataclass(frozen=True, slots=True)
class LocalPlan:
    """Where an embedded model will run, and what it takes.

    Attributes:
        file: the model's file.
        runtime: "openvino" or "llamacpp".
        reason: why that one.
        memory_bytes: of weights and cache at most, about.
    """

    file: str
    runtime: str
    reason: str
    memory_bytes: int


def local_plan(config: LLMConfig) -> LocalPlan:
    """What `build_client` would do with an embedded model. Loads nothing.

    Raises:
        MissingExtraError, ModelError, LLMError: see `build_client`.
    """
    from multigrain.llm.local.gguf_file import GgufFile
    from multigrain.llm.local.runtime import choose_runtime, needed_bytes

    file = GgufFile.find(config.model)
    choice = choose_runtime(file, config.runtime, config.extra_body)
    needed = needed_bytes(choice, file, concurrency=config.concurrency, context_tokens=config.context_tokens)
    return LocalPlan(str(file.path), choice.runtime, choice.reason, needed)


def total_concurrency(config: LLMConfig) -> int:
    """Requests that may be in flight at all endpoints together: what an engine should keep in work."""
    if config.provider != "openai":
        return config.concurrency
    return sum(endpoint.concurrency for endpoint in _endpoints(config))


def _endpoints(config: LLMConfig) -> list[LLMConfig]:
    """The config once for each endpoint, with that one's own settings in the place of the common ones."""
    own = [
        {name: value for name, value in endpoint.model_dump().items() if value is not None}
        for endpoint in config.more_endpoints
    ]
    return [config, *(config.model_copy(update=values) for values in own)]

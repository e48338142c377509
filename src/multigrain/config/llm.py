"""The language model, its endpoints and its prices."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from multigrain.config.paths import model_reference
from multigrain.config.section import Section

_OWN_KEYS: Final = {
    "max_completion_tokens": "set llm.max_tokens instead",
    "max_tokens": "set llm.max_tokens instead",
    "messages": "set synthesis.templates instead",
    "model": "set llm.model instead",
    "n": "one answer is read from each request; leave it out",
    "response_format": "set llm.structured_output instead",
    "seed": "set seed, at the top of the config, instead",
    "stop": "the strategy decides where an answer ends; leave it out",
    "stream": "answers are read whole; leave it out",
    "temperature": "set llm.temperature instead",
    "top_p": "set llm.top_p instead",
}
"""Keys of a request's JSON that are set here, and what to do instead."""

_ADDED_LATER: Final = ("extra_", "runtime")

_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VARIABLE: Final = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)")
_OWN_HEADERS: Final = frozenset({"content-length", "content-type", "transfer-encoding"})
_SECRET: Final = re.compile(
    r"key|token|secret|passw|credential|cookie|signature|(?:^|[-_])auth(?:$|[-_]|orization|entication)", re.IGNORECASE
)
"""What is in the names of headers that hold secrets: every gateway has a name of its own."""


def checked_headers(headers: dict[str, str]) -> dict[str, str]:
    """The headers, if they can be sent and hold no secret.

    Raises:
        ValueError: one line that says what is wrong. It never has a value.
    """
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a header: use letters, digits and hyphens")
        if name.lower() in _OWN_HEADERS:
            raise ValueError(f"multigrain sets {name} itself; leave it out")
        if value.startswith("env:") and named_variable(value) is None:
            raise ValueError(f"the value of {name} names no environment variable: write env:NAME")
        if _SECRET.search(name) and named_variable(value) is None:
            raise ValueError(f"{name} seems to hold a secret, which does not belong in this file: write env:NAME")
        if not value.isascii() or not value.isprintable():
            raise ValueError(f"the value of {name} has signs that no header can have")
    return headers


def named_variable(value: str) -> str | None:
    """The environment variable that a header's value is read from; None for a value that stands for itself."""
    reference = _VARIABLE.fullmatch(value)
    return None if reference is None else reference[1]


_Headers = Annotated[dict[str, str], AfterValidator(checked_headers)]


class _Requests(Section):
    """How requests are sent. What later versions added is left out of what is saved where nobody sets it.

    So fingerprints of configs without them are those of versions that knew none.
    """

    @model_serializer(mode="wrap")
    def _without_unset_extras(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        values: dict[str, Any] = dump(self)
        return {
            key: value
            for key, value in values.items()
            if not key.startswith(_ADDED_LATER) or value != fields[key].get_default(call_default_factory=True)
        }


class EndpointConfig(_Requests):
    """One more endpoint that serves the same model."""

    base_url: str
    """Its address, e.g. http://gpu2:8000/v1."""

    api_key_env: str | None = None
    """The environment variable that holds its key (null: the one of `llm`)."""

    model: str | None = None
    """What the model is called there (null: as in `llm`)."""

    concurrency: int | None = Field(default=None, ge=1, le=4096)
    """Requests in flight there (null: as in `llm`)."""

    extra_headers: _Headers | None = None
    """HTTP headers sent there (null: those of `llm`)."""


class PriceConfig(Section):
    """What a model costs, in US dollars per million tokens."""

    prompt: float = Field(ge=0)
    """Tokens read."""

    completion: float = Field(ge=0)
    """Tokens written."""

    cached_prompt: float | None = Field(default=None, ge=0)
    """Tokens read from the endpoint's prefix cache (null: as any other)."""

    batch_share: float = Field(default=0.5, ge=0, le=1)
    """What a request in a batch file costs, as a share of the price."""


class LLMConfig(_Requests):
    """The language model that writes."""

    provider: Literal["local", "openai", "scripted"] = "local"
    """local: a model inside this process. openai: any OpenAI-compatible endpoint (vLLM, Ollama, OpenAI, …).
    scripted: a deterministic fake for dry tests."""

    model: str = "auto"
    """local: a .gguf path, package:NAME, OWNER/REPO:FILE.gguf on the hub, or auto. openai: the model's name."""

    base_url: str | None = None
    """The endpoint, e.g. http://localhost:8000/v1. Null: $OPENAI_BASE_URL, else OpenAI's."""

    api_key_env: str = "OPENAI_API_KEY"
    """The environment variable that holds the key. The key itself never belongs in this file."""

    temperature: float = Field(default=0.8, ge=0, le=2)
    """Sampling temperature."""

    top_p: float = Field(default=0.9, gt=0, le=1)
    """Nucleus sampling."""

    max_tokens: int = Field(default=768, ge=8)
    """Longest answer, in tokens."""

    concurrency: int = Field(default=8, ge=1, le=4096)
    """Requests in flight (for local: parallel slots)."""

    threads: int | None = Field(default=None, ge=1)
    """CPU threads of the local model (null: one per core)."""

    runtime: Literal["auto", "openvino", "llamacpp"] = "auto"
    """local only: what runs the model. openvino: batches requests, and reads Llama, Qwen2 and Qwen3 files. llamacpp:
    reads every GGUF file. auto: what is installed, can read the file, and is the faster one on this processor."""

    timeout_seconds: float = Field(default=120.0, gt=0)
    """How long one request may take."""

    max_retries: int = Field(default=4, ge=0, le=20)
    """How often a request that failed for a temporary reason (429, 5xx, a reset) is sent again."""

    structured_output: bool = True
    """Ask for JSON-schema-constrained output; endpoints without it still get the schema in the prompt."""

    extra_body: dict[str, Any] = Field(default_factory=dict)
    """More keys for the JSON of every request, e.g. {reasoning_effort: low} or, for Qwen3 on vLLM,
    {chat_template_kwargs: {enable_thinking: false}}. Part of what identifies a completion."""

    extra_headers: _Headers = Field(default_factory=dict)
    """openai only: more HTTP headers. A value env:NAME is read from that environment variable, so that a secret never
    stands in this file: {api-key: env:GATEWAY_KEY}."""

    context_tokens: int = Field(default=3072, ge=256)
    """local only: longest prompt and answer together, in tokens; memory grows with it times `concurrency`, and
    `multigrain synthesize --dry-run` says by how much."""

    more_endpoints: list[EndpointConfig] = Field(default_factory=list)
    """openai only: further endpoints that serve the same model. A request goes to whichever has most room."""

    prices: dict[str, PriceConfig] = Field(default_factory=dict)
    """Prices by model name, in US dollars per million tokens: {MODEL: {prompt: 0.1, completion: 0.2}}. They
    override the built-in table, which has OpenAI's models alone; `synthesis.max_cost` needs a price."""

    @field_validator("model")
    @classmethod
    def _local_models_are_files(cls, model: str, info: ValidationInfo) -> str:
        return model_reference(model, info) if info.data.get("provider") == "local" else model

    @field_validator("extra_body")
    @classmethod
    def _sets_nothing_twice(cls, values: dict[str, Any]) -> dict[str, Any]:
        if own := sorted(values.keys() & _OWN_KEYS.keys()):
            raise ValueError(f"multigrain sets {own[0]!r} itself: {_OWN_KEYS[own[0]]}")
        try:
            json.dumps(values, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"it becomes JSON, which cannot say this ({error}): put dates in quotes") from None
        return values

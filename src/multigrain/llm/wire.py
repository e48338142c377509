"""The OpenAI chat-completions format, both ways. Endpoints, batch files and llama.cpp all speak it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Literal

from multigrain.llm.answers import UnusableAnswer, without_reasoning
from multigrain.llm.protocol import Completion, CompletionFailure, CompletionRequest

ResponseFormat = Literal["json_schema", "json_schema_basic", "json_object", "text"]
"""How a schema reaches the endpoint: whole; without the limits that strict endpoints turn down; as the wish for some
JSON object; not at all. Under the last two it stands in the prompt instead."""

_FORMS: Final[tuple[ResponseFormat, ...]] = ("json_schema", "json_schema_basic", "json_object", "text")
_ABOUT_SCHEMA: Final = ("response_format", "json_schema", "json schema", "json_object", "structured output", "grammar")
_OPTIONAL: Final = ("seed", "stop", "top_p", "temperature")
_NOT_KNOWN: Final = ("unsupported", "not support", "unknown", "unrecognized", "unexpected", "extra", "not permitted")
_LIMITS: Final = ("minLength", "maxLength", "pattern", "format", "minItems", "maxItems", "minimum", "maximum")


def chat_body(
    request: CompletionRequest,
    model: str,
    *,
    form: ResponseFormat = "json_schema",
    schema_in_prompt: bool = False,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A request as the JSON body of POST /chat/completions.

    Args:
        request: what is asked.
        model: the model's name at the endpoint.
        form: how a schema is passed on.
        schema_in_prompt: write the schema into the prompt too, for endpoints that ignore `response_format`.
        extra: more keys of the body; none that is set here.
    """
    messages = [{"role": message.role, "content": message.content} for message in request.messages]
    body: dict[str, Any] = {
        **(extra or {}),
        "model": model,
        "messages": messages,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_tokens": request.max_tokens,
        "seed": request.seed,
    }
    if request.stop:
        body["stop"] = list(request.stop)
    if request.schema is None:
        return body
    if form in ("json_schema", "json_schema_basic"):
        schema = request.schema if form == "json_schema" else _without_limits(request.schema)
        answer = {"name": "answer", "strict": True, "schema": schema}
        body["response_format"] = {"type": "json_schema", "json_schema": answer}
    elif form == "json_object":
        body["response_format"] = {"type": "json_object"}
    if form in ("json_object", "text") or schema_in_prompt:
        _explain_schema(messages, request.schema)
    return body


def read_completion(body: Any, *, prefill: str = "", seconds: float = 0.0) -> Completion:
    """Read the JSON body of an answer.

    Args:
        body: the parsed answer; untrusted.
        prefill: what the model went on from: taken off where the endpoint repeats it.
        seconds: how long the answer took.

    Raises:
        CompletionFailure: the body is no chat completion ("malformed"), or the endpoint withheld the text
            ("content_filter").
    """
    choices = body.get("choices") if isinstance(body, Mapping) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(choice, Mapping) or not isinstance(message, Mapping):
        raise CompletionFailure("malformed", "the answer holds no choices" if choices == [] else "no chat completion")
    text = message.get("content")
    refusal = message.get("refusal")
    finish = choice.get("finish_reason")
    if not isinstance(text, str):
        # Reasoning models and refusals may leave the content null; anything else that is no text is not ours.
        if text is not None:
            raise CompletionFailure("malformed", f"content of type {type(text).__name__}")
        text = refusal if isinstance(refusal, str) else ""
    if finish == "content_filter" and not text:
        raise CompletionFailure("content_filter", "the endpoint's content filter withheld the answer")
    usage = body.get("usage")
    usage = usage if isinstance(usage, Mapping) else {}
    details = usage.get("prompt_tokens_details")
    return Completion(
        text=text.removeprefix(prefill) if prefill else text,
        finish_reason=finish if isinstance(finish, str) else "unknown",
        model=str(body.get("model", "")),
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        cached_tokens=_count(details.get("cached_tokens")) if isinstance(details, Mapping) else 0,
        seconds=seconds,
    )


class Dialect:
    """How one endpoint is spoken to, learnt from what it turns down.

    Endpoints that call themselves OpenAI-compatible differ in which parameters they take and in how, or whether, they
    follow a JSON schema. A request that is turned down for such a reason is put another way and sent again.

    Args:
        model: the model's name there.
        structured: whether to try `response_format` at all.
        extra_body: more keys of every request.

    Attributes:
        version: counts what was learnt; a request remembers the one it was sent under.
    """

    def __init__(self, model: str, *, structured: bool = True, extra_body: Mapping[str, Any] | None = None) -> None:
        self._model = model
        self._extra = extra_body
        self._form: ResponseFormat = "json_schema" if structured else "text"
        self._schema_in_prompt = False
        self._long_budget_name = False
        self._dropped: set[str] = set()
        self.version = 0

    def __repr__(self) -> str:
        return f"Dialect(form={self._form!r}, schema_in_prompt={self._schema_in_prompt}, dropped={self._dropped})"

    def body(self, request: CompletionRequest) -> dict[str, Any]:
        """The request as this endpoint takes it."""
        body = chat_body(
            request, self._model, form=self._form, schema_in_prompt=self._schema_in_prompt, extra=self._extra
        )
        for name in self._dropped:
            body.pop(name, None)
        if self._long_budget_name:
            body["max_completion_tokens"] = body.pop("max_tokens")
        return body

    def learn(self, complaint: str, body: dict[str, Any], version: int) -> bool:
        """Take in why a request was turned down.

        Args:
            complaint: the endpoint's words.
            body: what was sent.
            version: the version it was sent under.

        Returns:
            Whether there is another way to put it. Each answer of True uses up one way, so it ends.
        """
        if version != self.version:
            return True  # another request has learnt something since: try what it found
        words = complaint.lower()
        if "max_completion_tokens" in words and "max_tokens" in body:
            self._long_budget_name = True
        elif "response_format" in body and any(word in words for word in _ABOUT_SCHEMA):
            self._form = _FORMS[_FORMS.index(self._form) + 1]
        elif any(word in words for word in _NOT_KNOWN):
            named = next((name for name in _OPTIONAL if name in words and name in body), None)
            if named is None:
                return False
            self._dropped.add(named)
        else:
            return False
        self.version += 1
        return True

    def observe(self, request: CompletionRequest, completion: Completion) -> None:
        """Notice an endpoint that takes `response_format` and ignores it: the schema goes into the prompt then."""
        if request.schema is None or self._schema_in_prompt or completion.finish_reason == "length":
            return
        try:
            answer = json.loads(request.prefill + without_reasoning(completion.text))
        except UnusableAnswer:
            return  # it never came to the answer
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict) or not answer.keys() >= set(request.schema.get("required", ())):
            self._schema_in_prompt = True


def _explain_schema(messages: list[dict[str, str]], schema: Mapping[str, Any]) -> None:
    """Add the schema to the last user message, in place."""
    words = "\n\nReply with one JSON object and nothing else. It must follow this JSON schema:\n"
    for message in [message for message in messages if message["role"] == "user"][-1:]:
        message["content"] += words + json.dumps(schema, ensure_ascii=False)


def _without_limits(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_limits(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    named = {name: schema[name] for name in ("properties", "$defs") if name in schema}
    plain = {key: _without_limits(value) for key, value in schema.items() if key not in _LIMITS and key not in named}
    return plain | {name: {key: _without_limits(part) for key, part in parts.items()} for name, parts in named.items()}


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else 0

"""What an endpoint understands, learnt from what it turns down.

Endpoints that call themselves OpenAI-compatible differ in which parameters they take and in how, or whether, they
follow a JSON schema. A request that is turned down for such a reason is put another way and sent again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from multigrain.llm.answers import UnusableAnswer, without_reasoning
from multigrain.llm.protocol import Completion, CompletionRequest
from multigrain.llm.wire import ResponseFormat, chat_body

_FORMS: Final[tuple[ResponseFormat, ...]] = ("json_schema", "json_schema_basic", "json_object", "text")
_ABOUT_SCHEMA: Final = ("response_format", "json_schema", "json schema", "json_object", "structured output", "grammar")
_OPTIONAL: Final = ("seed", "stop", "top_p", "temperature")
_NOT_KNOWN: Final = ("unsupported", "not support", "unknown", "unrecognized", "unexpected", "extra", "not permitted")


class Dialect:
    """How one endpoint is spoken to.

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

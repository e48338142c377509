"""The OpenAI chat-completions format, both ways. Endpoints, batch files and llama.cpp all speak it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, Literal

from multigrain.llm.alternatives import read_alternatives
from multigrain.llm.complaints import Complaint, filtered, read_complaint, read_finish
from multigrain.llm.messages import read_message
from multigrain.llm.protocol import Completion, CompletionFailure, CompletionRequest, UnusableAnswer
from multigrain.llm.reasoning import thinks_aloud, without_reasoning
from multigrain.llm.schemas import CHECKED_HERE, without_keywords

ResponseFormat = Literal["json_schema", "json_schema_basic", "json_schema_plain", "json_object", "text"]
"""How a schema reaches the endpoint: whole but for `CHECKED_HERE`; without the limits that strict endpoints turn down;
as bare properties, for services that know a part of JSON schema; as the wish for some JSON object; not at all. Under
the last two it stands in the prompt instead."""

_FORMS: Final[tuple[ResponseFormat, ...]] = (
    "json_schema",
    "json_schema_basic",
    "json_schema_plain",
    "json_object",
    "text",
)
_ABOUT_SCHEMA: Final = (
    "response_format",
    "responseformat",
    "response_schema",
    "responseschema",
    "json_schema",
    "json schema",
    "json_object",
    "json mode",
    "structured output",
    "structured_output",
    "guided",
    "grammar",
    "additionalproperties",
    "output_config",
)
LOGPROBS: Final = "logprobs"
"""The parameter by which probabilities of tokens are asked for; how many is another, which goes with it."""

_TOP_LOGPROBS: Final = "top_logprobs"
_OPTIONAL: Final = {
    "seed": re.compile(r"\bseed\b"),
    "stop": re.compile(r"\bstop(?:_sequences?)?\b"),
    "top_p": re.compile(r"\btop_p\b"),
    "temperature": re.compile(r"\btemperature\b"),
}
"""Parameters that a request does without, and how complaints name them."""

_ABOUT_LOGPROBS: Final = re.compile(r"log_?probs?")
_TURNED_DOWN: Final = (
    "unsupported",
    "not support",
    "unknown",
    "unrecognized",
    "unexpected",
    "extra",
    "not permitted",
    "not allowed",
    "deprecated",
    "cannot both",
    "invalid",
    "must ",
    "only ",
)
_NO_SYSTEM_ROLE: Final = re.compile(
    r"system role (?:is )?not supported|system message (?:is )?not supported|does not support (?:the )?system"
    r"|roles must alternate|only user(?:,| and) assistant.{0,30}roles are supported"
    r"|developer instruction is not enabled"
)
_CONTEXT: Final = re.compile(r"(?:context length|context window|context size)\D{0,12}(\d{3,8})")
_PROMPT_TOKENS: Final = re.compile(
    r"(?<!at least )\b(\d{1,8}) (?:input tokens|(?:tokens )?in the messages|(?:tokens )?of text input|prompt tokens)"
)
_LOOKED_AT: Final = 256
_THEN_EVERY: Final = 16
_SMALLEST_SHARE: Final = 4
"""An answer gets this part of the tokens that it should have, at least: with fewer it would be paid for and cut."""

_LIMITS: Final = (*CHECKED_HERE, "maxLength", "pattern", "format", "minItems", "maxItems", "minimum", "maximum")
_STRICT: Final = ("additionalProperties", "title", "default", "$schema")
_LEFT_OUT: Final = {
    "json_schema": CHECKED_HERE,
    "json_schema_basic": _LIMITS,
    "json_schema_plain": (*_LIMITS, *_STRICT),
}
_MOST_TOKENS: Final = re.compile(
    r"max(?:imum)?[ _](?:(?:completion|output|new)[ _])?tokens\b.{0,160}?(?:at most|up to|<=|less than or equal to"
    r"|maximum(?: value)?(?: of| is)?|not exceed|no more than|\[1, ?)\D{0,12}(\d{2,7})",
    re.IGNORECASE | re.DOTALL,
)


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
    if request.alternatives:
        body |= {LOGPROBS: True, _TOP_LOGPROBS: request.alternatives}
    if request.schema is None:
        return body
    if form in _LEFT_OUT:
        strict = {} if form == "json_schema_plain" else {"strict": True}
        answer = {"name": "answer", **strict, "schema": without_keywords(_LEFT_OUT[form], request.schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": answer}
    elif form == "json_object":
        body["response_format"] = {"type": "json_object"}
    if form in ("json_object", "text") or schema_in_prompt:
        _explain_schema(messages, request.schema)
    return body


def read_completion(body: Any, *, prefill: str = "", seconds: float = 0.0) -> Completion:
    """Read the JSON body of an answer.

    The answer is the message's text, or the text parts of one that comes in parts. Where there is none, JSON in
    another field is taken, which is where some servers put a structured answer; reasoning that stands there stays
    marked as such.

    Args:
        body: the parsed answer; untrusted.
        prefill: what the model went on from: taken off where the endpoint repeats it.
        seconds: how long the answer took.

    Raises:
        CompletionFailure: the body is no chat completion ("malformed"), the endpoint withheld the text
            ("content_filter"), or says that the answer failed ("server_error").
    """
    choices = body.get("choices") if isinstance(body, Mapping) else None
    choice = choices[0] if isinstance(choices, list) and choices else choices
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(choice, Mapping) or not isinstance(message, Mapping):
        raise CompletionFailure("malformed", "the answer holds no choices" if choices == [] else "no chat completion")
    finish = choice.get("finish_reason")
    if filtered(finish):
        # Also where it began: half an answer is none.
        raise CompletionFailure("content_filter", "the endpoint's content filter withheld the answer")
    text, thoughts = read_message(message)
    if not text and finish == "error":
        complaint = read_complaint(500, choice.get("error"))
        raise CompletionFailure("server_error", complaint.sentence if complaint else "the answer ended in an error")
    usage = body.get("usage")
    usage = usage if isinstance(usage, Mapping) else {}
    return Completion(
        text=text.removeprefix(prefill) if prefill else text,
        finish_reason=read_finish(finish),
        model=str(body.get("model", "")),
        prompt_tokens=read_count(usage.get("prompt_tokens")),
        completion_tokens=read_count(usage.get("completion_tokens")),
        cached_tokens=_detail(usage, "prompt_tokens_details", "cached_tokens"),
        seconds=seconds,
        alternatives=read_alternatives(choice.get("logprobs")),
        thought=bool(thoughts) or _detail(usage, "completion_tokens_details", "reasoning_tokens") > 0,
    )


class Dialect:
    """How one endpoint is spoken to, learnt from what it turns down.

    Endpoints that call themselves OpenAI-compatible differ in which parameters they take and in how, or whether, they
    follow a JSON schema. A request that is turned down for such a reason is put another way and sent again.

    Models differ in whether they think before they answer. One that is seen to gets a request's whole room from then
    on, and no stops: those would end its thoughts, so whoever asks has to cut at them.

    Args:
        model: the model's name there.
        structured: whether to try `response_format` at all.
        extra_body: more keys of every request.

    Attributes:
        version: counts what was learnt; a request remembers the one it was sent under.
        thinks: whether the model has been seen to think before it answers.
    """

    def __init__(self, model: str, *, structured: bool = True, extra_body: Mapping[str, Any] | None = None) -> None:
        self._model = model
        self._extra = extra_body
        self._form: ResponseFormat = "json_schema" if structured else "text"
        self._schema_in_prompt = False
        self._long_budget_name = False
        self._dropped: set[str] = set()
        self._most_tokens: int | None = None
        self._has_system_role = True
        self._added: dict[str, Any] = {}
        self._observed = 0
        self.thinks = False
        self.version = 0

    def __repr__(self) -> str:
        return (
            f"Dialect(form={self._form!r}, schema_in_prompt={self._schema_in_prompt}, dropped={self._dropped}, "
            f"thinks={self.thinks})"
        )

    def body(
        self, request: CompletionRequest, *, with_room: bool = True, most_tokens: int | None = None
    ) -> dict[str, Any]:
        """The request as this endpoint takes it.

        Args:
            request: what is asked.
            with_room: whether a model that thinks first gets the room for it.
            most_tokens: what there is room for behind this very prompt, where that is known.
        """
        body = chat_body(
            request, self._model, form=self._form, schema_in_prompt=self._schema_in_prompt, extra=self._extra
        )
        if self.thinks and with_room:
            body.pop("stop", None)
            body["max_tokens"] = max(request.max_tokens, request.room)
        limits = [limit for limit in (self._most_tokens, most_tokens) if limit is not None]
        body["max_tokens"] = min([body["max_tokens"], *limits])
        if not self._has_system_role:
            _fold_system_message(body["messages"])
        for name in self._dropped:
            body.pop(name, None)
        if LOGPROBS not in body:
            body.pop(_TOP_LOGPROBS, None)
        body |= self._added
        if self._long_budget_name:
            body["max_completion_tokens"] = body.pop("max_tokens")
        return body

    def is_about_logprobs(self, complaint: Complaint, body: Mapping[str, Any]) -> bool:
        """Whether an endpoint turns a request down for the probabilities that it asks for."""
        return LOGPROBS in body and _ABOUT_LOGPROBS.search(complaint.words.lower()) is not None

    def learn(self, complaint: Complaint, body: dict[str, Any], version: int) -> bool:
        """Take in why a request was turned down.

        Args:
            complaint: what the endpoint says.
            body: what was sent.
            version: the version it was sent under.

        Returns:
            Whether there is another way to put it. Each answer of True uses up one way, so it ends.
        """
        if version != self.version:
            return True  # another request has learnt something since: try what it found
        words = complaint.words.lower()
        if _NO_SYSTEM_ROLE.search(words) and body["messages"][0]["role"] == "system":
            self._has_system_role = False
            self.version += 1
            return True
        if complaint.status >= 500:
            return False  # what templates refuse comes under 500 from some servers; anything else there may pass
        most = _MOST_TOKENS.search(words)
        if most is not None and 0 < int(most[1]) < body.get("max_tokens", body.get("max_completion_tokens", 0)):
            self._most_tokens = int(most[1])
        elif "max_completion_tokens" in words and "max_tokens" in body:
            self._long_budget_name = True
        elif self.is_about_logprobs(complaint, body) and any(word in words for word in _TURNED_DOWN):
            self._dropped.add(LOGPROBS)  # before the schema, which an endpoint may take without them
        elif "response_format" in body and any(word in words for word in _ABOUT_SCHEMA):
            self._form = _FORMS[_FORMS.index(self._form) + 1]
        elif "enable_thinking" in words and "false" in words and "enable_thinking" not in body:
            self._added["enable_thinking"] = False  # Qwen's own services want it where an answer is not streamed
        elif any(word in words for word in _TURNED_DOWN):
            named = next(
                (name for name, in_words in _OPTIONAL.items() if name in body and in_words.search(words)), None
            )
            if named is None:
                return False
            self._dropped.add(named)
        else:
            return False
        self.version += 1
        return True

    def fewer_tokens(self, complaint: Complaint, request: CompletionRequest, body: Mapping[str, Any]) -> int | None:
        """The tokens to ask for again, where prompt and answer together are more than the endpoint's context holds.

        Args:
            complaint: what the endpoint says.
            request: what is asked.
            body: what was sent.

        Returns:
            What is left behind the prompt, as far as the endpoint says how long that is, or else half of what was
            asked for; None where an answer would not fit, or the complaint is about something else.
        """
        asked: int = body.get("max_tokens", body.get("max_completion_tokens", 0))
        words = complaint.words.lower()
        context = _CONTEXT.search(words)
        if context is None or asked == 0:
            return None
        prompt = _PROMPT_TOKENS.search(words)
        left = int(context[1]) - int(prompt[1]) if prompt else asked // 2
        least = -(-min(request.max_tokens, asked) // _SMALLEST_SHARE)
        return left if least <= left < asked else None

    def observe(self, request: CompletionRequest, completion: Completion) -> None:
        """Notice a model that thinks before it answers, and an endpoint that takes a parameter and ignores it.

        A schema goes into the prompt then; for probabilities it is not asked again.
        """
        if request.alternatives and completion.alternatives is None and completion.text.strip():
            self._dropped.add(LOGPROBS)
        nothing_yet = completion.finish_reason == "length" and not completion.text.strip()
        self.thinks = self.thinks or completion.thought or nothing_yet
        if request.schema is not None and completion.text.startswith('{"'):
            self._observed += 1
            if self._observed > _LOOKED_AT and self._observed % _THEN_EVERY:
                return  # a model that has answered so often in JSON is not asked every time whether it still does
        self.thinks = self.thinks or thinks_aloud(completion.text)
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


def _fold_system_message(messages: list[dict[str, str]]) -> None:
    """Put a system message before the user's, in place, for models whose template knows no such role."""
    if len(messages) > 1 and messages[0]["role"] == "system":
        system = messages.pop(0)
        messages[0]["content"] = f"{system['content']}\n\n{messages[0]['content']}"


def _detail(usage: Mapping[str, Any], details: str, name: str) -> int:
    part = usage.get(details)
    return read_count(part.get(name)) if isinstance(part, Mapping) else 0


def read_count(value: Any) -> int:
    """A count of tokens that an endpoint reports; 0 for what is no count."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else 0

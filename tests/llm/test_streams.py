"""Answers that come as a stream although none was asked for."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multigrain.llm.streams import read_stream
from multigrain.llm.wire import read_completion


def events(*bodies: object, end: str = "data: [DONE]\n\n", line_end: str = "\n") -> str:
    text = "".join(f"data: {json.dumps(body, ensure_ascii=False)}\n\n" for body in bodies) + end
    return text.replace("\n", line_end)


def delta(text: str | None = None, finish: str | None = None, **more: str) -> dict[str, object]:
    content = {} if text is None else {"content": text}
    return {"model": "m", "choices": [{"index": 0, "delta": {**content, **more}, "finish_reason": finish}]}


some_text = st.text() | st.text(st.sampled_from("ab \x85\u2028\u2029"))


@given(st.lists(some_text, min_size=1), st.lists(st.text(alphabet="abc")), st.sampled_from(["\n", "\r\n", "\r"]))
def test_pieces_add_up_to_the_answer(pieces: list[str], thoughts: list[str], line_end: str) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}
    thought = [delta(reasoning_content=piece) for piece in thoughts]
    text = ": a comment\n\n" + events(*thought, *map(delta, pieces), delta(finish="stop"), usage, line_end=line_end)
    answer = read_stream(text)
    assert answer is not None
    message = answer["choices"][0]["message"]
    assert (message["content"], message.get("reasoning_content", "")) == ("".join(pieces), "".join(thoughts))
    completion = read_completion(answer)
    assert (completion.finish_reason, completion.prompt_tokens, completion.completion_tokens) == ("stop", 7, 3)


def test_a_stream_that_breaks_off_is_a_cut_answer() -> None:
    answer = read_stream(events(delta("how riv"), end='data: {"choices": [{"ind'))
    assert answer is not None
    assert read_completion(answer).finish_reason == "length"


def test_a_stream_that_was_cut_under_another_word_is_a_cut_answer() -> None:
    answer = read_stream(events(delta("how rivers"), delta(" flo", "MAX_TOKENS")))
    assert answer is not None
    assert read_completion(answer).finish_reason == "length"


def test_an_error_in_a_stream_is_the_answer() -> None:
    assert read_stream(events({"error": {"message": "overloaded"}})) == {"error": {"message": "overloaded"}}


@pytest.mark.parametrize("text", ["", "<html>", "data", "data: [DONE]", "Internal Server Error"])
def test_other_texts_are_no_stream(text: str) -> None:
    assert read_stream(text) is None


def test_a_whole_answer_may_come_as_one_event_or_before_the_last_mark() -> None:
    whole = {"choices": [{"index": 0, "message": {"content": "how rivers flow"}, "finish_reason": "stop"}]}
    for text in (f"data:{json.dumps(whole)}\n\n", json.dumps(whole) + "\n\ndata: [DONE]\n\n"):
        answer = read_stream(text)
        assert answer is not None
        assert read_completion(answer).text == "how rivers flow"
    assert read_stream(json.dumps(whole) + " and more") is None

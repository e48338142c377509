"""Whatever form an answer comes in, and whoever asked: thoughts are never taken for what was asked for."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from multigrain.audit.judges import LanguageModelJudge
from multigrain.config import JudgeConfig, LLMConfig, SynthesisConfig, TasksConfig
from multigrain.engine.local import LocalEngine
from multigrain.llm.protocol import (
    Completion,
    CompletionFailure,
    CompletionRequest,
    LLMClient,
    Message,
    UnusableAnswer,
)
from multigrain.llm.scripted import ScriptedLLM
from multigrain.llm.wire import read_completion
from multigrain.records import Document
from multigrain.synthesis.brainstorm import brainstorm
from multigrain.synthesis.heldout import write_heldout_queries
from multigrain.synthesis.lead_ins import bare
from multigrain.synthesis.plain_text import read_query
from multigrain.synthesis.strategies.protocol import WritingUnit
from multigrain.synthesis.synthesize import build_strategy, synthesize

DOCUMENT = Document("d", "A relief valve closes when the pressure of the boiler falls below nine bar.")
QUERY = "when does a relief valve close"
PASSAGE = "A passage about pumps that move water through long pipes."
TASK = "Given a symptom, find the remedy that relieves it."
THOUGHT = "Okay, the user wants a search query.\nLet me think: {it} should be short."
ALOUD = THOUGHT.replace("\n", " ")

Form = Callable[[str], dict[str, Any]]


def text(before: str, after: str = "") -> Form:
    return lambda answer: {"content": f"{before}{answer}{after}"}


def fields(**others: Any) -> Form:
    return lambda answer: {"content": answer, **others}


# A new form of answers joins here: how a message looks whose answer is a given text.
FORMS: dict[str, Form] = {
    "plain": text(""),
    "newlines first": text("\n\n"),
    "think": text(f"<think>\n{THOUGHT}\n</think>\n\n"),
    "think in one line": text(f"<think>{ALOUD}</think>"),
    "think, opened by the template": text(f"{THOUGHT}\n</think>\n\n"),
    "think in one line, opened by the template": text(f"{ALOUD}</think> "),
    "think, empty": text("<think>\n\n</think>\n\n"),
    "think, twice": text(f"<think>{THOUGHT}</think>\n<think>{THOUGHT}</think>\n"),
    "think, nested": text(f"<think>{THOUGHT}<think>{ALOUD}</think> and so</think>\n"),
    "thinking": text(f"<thinking>{THOUGHT}</thinking>\n"),
    "thought": text(f"<thought>\n{THOUGHT}</thought>\n"),
    "THINK": text(f"<THINK>{THOUGHT}</THINK>"),
    "reasoning": text(f"<reasoning>{THOUGHT}</reasoning>"),
    "answer tags": text(f"<think>\n{THOUGHT}\n</think>\n<answer>\n", "\n</answer>"),
    "answer tags alone": text("<answer>", "</answer>"),
    "magistral": text(f"[THINK]{THOUGHT}[/THINK]"),
    "magistral, opened by the template": text(f"{THOUGHT}[/THINK]"),
    "kimi": text(f"◁think▷{THOUGHT}◁/think▷"),
    "openthinker": text(
        f"<|begin_of_thought|>{THOUGHT}<|end_of_thought|>\n<|begin_of_solution|>\n", "<|end_of_solution|>"
    ),
    "command a": text(f"<|START_THINKING|>{THOUGHT}<|END_THINKING|><|START_RESPONSE|>", "<|END_RESPONSE|>"),
    "apertus": text(f"<|inner_prefix|>{THOUGHT}<|inner_suffix|>"),
    "gemma 4": text(f"<|channel>thought\n{THOUGHT}<channel|>"),
    "solar": text(f"<|think|>{THOUGHT}<|end|><|begin|>assistant<|content|>", "<|end|>"),
    "seed": text(f"<seed:think>{THOUGHT}</seed:think>"),
    "granite": text(f"Here is my thought process:\n{THOUGHT}\nHere is my response:\n"),
    "ollama": text(f"Thinking...\n{THOUGHT}\n...done thinking.\n\n"),
    "harmony": text(
        f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|start|>assistant<|channel|>final<|message|>", "<|return|>"
    ),
    "harmony, final alone": text("<|channel|>final<|message|>"),
    "harmony without its tokens": text(f"analysis{THOUGHT}assistantfinal"),
    "end of turn": text("", "<|im_end|>\n<|im_start|>user"),
    "reasoning beside": fields(reasoning_content=THOUGHT),
    "reasoning beside, by another name": fields(reasoning=THOUGHT),
    "parts": lambda answer: {"content": [{"type": "text", "text": answer}]},
    "parts, two": lambda answer: {"content": [{"type": "text", "text": answer[:5]}, {"text": answer[5:]}]},
    "parts with thoughts": lambda answer: {
        "content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]},
            {"type": "text", "text": answer},
        ]
    },
    "parts with reasoning": lambda answer: {
        "content": [{"type": "reasoning", "text": THOUGHT}, {"type": "output_text", "text": answer}]
    },
    # No one can tell a thought from an answer there, but by its being JSON: so it is asked for as JSON.
    "null, all in reasoning_content": lambda answer: {"content": None, "reasoning_content": answer},
    "null, a call": lambda answer: {
        "content": None,
        "tool_calls": [
            {"function": {"arguments": answer if answer.startswith("{") else json.dumps({"query": answer})}}
        ],
    },
}

# Free text only: structured answers are found wherever they stand.
LEAD_INS: dict[str, Form] = {
    "announced": text("Here's a concise summary: "),
    "announced, curly": text("Here’s a short search query for this text: "),
    "announced on a line of its own": text("Here is the search query:\n\n"),
    "announced without a colon": text("Here is a concise summary of the text.\n"),
    "announced by whatever ends in a colon": text("This code:\n\n- "),
    "agreed": text("Sure, here is a query that somebody would type: "),
    "agreed on a line of its own": text("Sure!\n"),
    "label": text("Query: "),
    "long label": text("Search query: "),
    "question label": text("Question: "),
    "label on a line of its own": text("**Query**\n"),
    "bold label": text("**Search query:** "),
    "bold": text("**", "**"),
    "quotes": text('"', '"'),
    "curly quotes": text("“", "”"),
    "backticks": text("`", "`"),
    "bullet": text("- "),
    "star": text("* "),
    "numbered": text("1. "),
    "numbered, quoted": text('1. "', '"'),
    "all of it": text('Sure! Here is a short question: **Query:** "', '"'),
    "the answer so": text("The search query could be: "),
    "object": lambda answer: {"content": json.dumps({"query": answer})},
    "object in a fence": lambda answer: {"content": f"```json\n{json.dumps({'query': answer}, indent=1)}\n```"},
    "fence": text("```\n", "\n```"),
    "explained": text("", "\n\nThis query asks for the pressure."),
}

# There is no answer in these, whatever is asked for.
THOUGHTS_ALONE: dict[str, dict[str, Any]] = {
    "think": {"content": f"<think>\n{THOUGHT}"},
    "magistral": {"content": f"[THINK]{THOUGHT}"},
    "harmony": {"content": f"<|channel|>analysis<|message|>{THOUGHT}"},
    "harmony without its tokens": {"content": f"analysis{THOUGHT}"},
    "aloud": {"content": THOUGHT},
    "we": {"content": "We need to output a search query that somebody would type."},
    "the user": {"content": "The user is asking for a short question about the text."},
    "process": {"content": "Thinking Process:\n\n1. Analyze the request"},
    "chinese": {"content": "好的，用户想要一个搜索查询。"},
    "parts": {"content": [{"type": "thinking", "thinking": THOUGHT}]},
    "beside": {"content": None, "reasoning_content": THOUGHT},
}


def endpoint(form: Form) -> ScriptedLLM:
    """Answers rightly, in a form; stops where it is told to, as servers do without looking for thoughts."""

    def answer(request: CompletionRequest) -> Completion:
        said = QUERY if request.schema is None else json.dumps(_filled(request.schema))
        message = form(said)
        if isinstance(message.get("content"), str):
            for stop in request.stop:
                message["content"] = message["content"].partition(stop)[0]
        return read_completion({"choices": [{"message": message, "finish_reason": "stop"}]})

    def or_failure(request: CompletionRequest) -> Completion | Exception:
        try:
            return answer(request)
        except CompletionFailure as failure:
            return failure

    return ScriptedLLM(or_failure)


def _filled(schema: dict[str, Any]) -> dict[str, Any]:
    values = {"query": QUERY, "text": PASSAGE, "score": 4, "tasks": [TASK]}
    return {name: values.get(name, f"{PASSAGE} {name}") for name in schema["properties"]}


def _query(client: LLMClient, engine: LocalEngine, strategy: SynthesisConfig) -> str | None:
    (outcome,) = synthesize([WritingUnit(DOCUMENT)], build_strategy(strategy, LLMConfig(), seed=1), client, engine)
    return outcome.value and outcome.value.query


def query(client: LLMClient, engine: LocalEngine) -> Any:
    return _query(client, engine, SynthesisConfig(strategy="mined"))


def row(client: LLMClient, engine: LocalEngine) -> Any:
    return _query(client, engine, SynthesisConfig(strategy="mgh", query_first=False))


def heldout(client: LLMClient, engine: LocalEngine) -> Any:
    (outcome,) = write_heldout_queries([DOCUMENT], client, engine, LLMConfig(), characters=500, seed=1)
    return outcome.value


def judge(client: LLMClient, engine: LocalEngine) -> Any:
    judged = LanguageModelJudge(client, engine, config=JudgeConfig(positive_at_least=5), seed=1, room=768)
    (problem,) = judged.on_positives([(QUERY, PASSAGE)])
    return problem and problem.detail


def tasks(client: LLMClient, engine: LocalEngine) -> Any:
    config = TasksConfig.model_validate({"kinds": {"short-long": 1}, "count": 1})
    return [task.text for task in brainstorm(config, client, engine, LLMConfig(), seed=1).tasks]


# Who asks, and what comes of a right answer.
CALLS: dict[str, tuple[Callable[[LLMClient, LocalEngine], Any], Any]] = {
    "query": (query, QUERY),
    "held-out": (heldout, QUERY),
    "row": (row, QUERY),
    "judge": (judge, "the judge gives its positive 4 of 5, at least 5"),
    "brainstorm": (tasks, [TASK]),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("form", FORMS)
def test_the_answer_is_found_in_every_form_by_whoever_asked(form: str, call: str) -> None:
    ask, expected = CALLS[call]
    with LocalEngine(concurrency=1) as engine:
        assert ask(endpoint(FORMS[form]), engine) == expected


@pytest.mark.parametrize("call", ["query", "held-out"])
@pytest.mark.parametrize("form", LEAD_INS)
def test_what_stands_around_a_query_is_taken_off_and_the_text_behind_it_kept(form: str, call: str) -> None:
    ask, expected = CALLS[call]
    with LocalEngine(concurrency=1) as engine:
        assert ask(endpoint(LEAD_INS[form]), engine) == expected


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("form", THOUGHTS_ALONE)
def test_thoughts_alone_are_never_an_answer(form: str, call: str) -> None:
    ask, _ = CALLS[call]
    with LocalEngine(concurrency=1) as engine:
        assert ask(endpoint(lambda _: dict(THOUGHTS_ALONE[form])), engine) in (None, [])


@pytest.mark.parametrize("heldout", [False, True])
@pytest.mark.parametrize("form", THOUGHTS_ALONE)
def test_a_query_that_was_only_thought_about_has_the_kind_reasoning(form: str, heldout: bool) -> None:
    llm = endpoint(lambda _: dict(THOUGHTS_ALONE[form]))
    with LocalEngine(concurrency=1) as engine:
        strategy = build_strategy(SynthesisConfig(strategy="mined"), LLMConfig(), seed=1)
        (outcome,) = (
            write_heldout_queries([DOCUMENT], llm, engine, LLMConfig(), characters=500, seed=1)
            if heldout
            else synthesize([WritingUnit(DOCUMENT)], strategy, llm, engine)
        )
    assert outcome.failure is not None
    assert outcome.failure.kind == "reasoning"


@pytest.mark.parametrize(
    "line",
    [
        "how do I make the user sign in again",
        "the user must set a password before the first login",
        "I need to rotate logs every night, what do I configure?",
        "let's encrypt certificate renewal fails",
        "analysis of variance with unequal groups",
        "what does the error message: no such file mean",
        "2. Weltkrieg Ursachen",
        "OK button does not close the dialog",
        "first in first out queue in Python",
        "what's the difference between 'a' and 'b'",
        "This is a Python class named SummarizeReportInfo",
        "this is a valve: it closes at nine bar",
        "Here Maps API returns 403",
        "std::vector::push_back is slow",
        "__init__ is called twice",
        "think tank funding",
        "so_reuseport with several workers",
    ],
)
def test_queries_of_people_are_left_as_they_are(line: str) -> None:
    request = CompletionRequest((Message("user", "Write a query."),), stop=("\n",))
    assert read_query(Completion(line, "stop", "m"), request) == line
    assert bare(bare(line)) == bare(line)


def test_code_is_no_query() -> None:
    request = CompletionRequest((Message("user", "Write a query."),))
    with pytest.raises(UnusableAnswer) as caught:
        read_query(Completion("This code:\n```python\nimport smol\n```", "stop", "m"), request)
    assert caught.value.kind == "empty"


def test_a_query_about_the_marks_of_reasoning_is_one_where_the_document_has_them() -> None:
    line = "what does the <think> tag of a chat template do"
    about = CompletionRequest((Message("user", "Templates open <think> themselves."),))
    assert read_query(Completion(line, "stop", "m"), about) == line
    with pytest.raises(UnusableAnswer):
        read_query(Completion(line, "stop", "m"), CompletionRequest((Message("user", "Pumps move water."),)))


_SECRET = "zqx"
_OPENINGS = [
    "<think>",
    "<think>\n",
    "[THINK]",
    "◁think▷",
    "<|channel|>analysis<|message|>",
    "<seed:think>",
    "",
    "",
    "",
]
_CLOSINGS = ["</think>", "\n</think>\n\n", "[/THINK]", "◁/think▷", "</seed:think>", "<channel|>", "", ""]
_THOUGHTS = [
    f"Okay, the user wants a search query about {_SECRET}.",
    f"The user asks for one short question on {_SECRET}, so I will keep the query short.",
    f"We need to produce a search query for {_SECRET} from the text.",
    f"Let me think about {_SECRET} first.",
    f"I should write a query that somebody would type about {_SECRET}: the text is on valves.",
    f"Hmm, so the text is about {_SECRET}",
    f"Thinking Process:\n\n1. Read the text on {_SECRET}",
    f"好的，用户想要一个关于{_SECRET}的查询",
]
_NOISE = [
    "",
    "",
    "\n",
    " ",
    "Sure!\n",
    "Query: ",
    "**",
    '"',
    "- ",
    "```json\n",
    "{",
    "}",
    "\u2028",
    "\0",
    "\ud800",
    "1. ",
]
_ENDS = ["", QUERY, f"\n{QUERY}", f'{{"query": "{QUERY}"}}', "<|im_end|>", "```", "x" * 3000, "(" * 500, "<answer>"]


def hostile(chance: random.Random) -> str:
    """Thoughts, marks, wrapping and an answer, or some of them, in an order that models have."""
    thought = "\n".join(chance.sample(_THOUGHTS, chance.randint(1, 3)))
    if chance.random() < 0.1:
        return json.dumps({"query": chance.choice(_OPENINGS) + thought})
    before = chance.choice(_NOISE) if chance.random() < 0.5 else ""
    return "".join(
        [
            before,
            chance.choice(_OPENINGS),
            thought,
            *chance.choices(_NOISE, k=chance.randint(0, 2)),
            chance.choice(_CLOSINGS),
            *chance.choices(_NOISE, k=chance.randint(0, 3)),
            chance.choice(_ENDS),
        ]
    )


def test_ten_thousand_hostile_answers_crash_nothing_and_no_thought_becomes_a_query() -> None:
    chance = random.Random(28)
    request = CompletionRequest((Message("user", DOCUMENT.text),), max_tokens=40, stop=("\n",))
    kinds: dict[str, int] = {}
    for _ in range(10_000):
        answer = hostile(chance)
        if chance.random() < 0.5:
            answer = answer.partition("\n")[0]
        finish = chance.choice(["stop", "stop", "length"])
        try:
            found = read_query(Completion(answer, finish, "m"), request)
        except UnusableAnswer as unusable:
            kinds[unusable.kind] = kinds.get(unusable.kind, 0) + 1
        else:
            kinds[""] = kinds.get("", 0) + 1
            assert _SECRET not in found, answer
            assert "\n" not in found
    assert kinds.keys() <= {"", "reasoning", "empty", "truncated"}
    assert min(kinds["reasoning"], kinds[""]) > 500


def test_ten_thousand_hostile_answers_end_in_a_row_or_a_failure() -> None:
    chance = random.Random(7)
    llm = ScriptedLLM(lambda _: hostile(chance))
    units = [WritingUnit(Document(f"d{number}", f"{DOCUMENT.text} {number}")) for number in range(1500)]
    with LocalEngine(concurrency=4) as engine:
        strategy = build_strategy(SynthesisConfig(strategy="stepwise"), LLMConfig(), seed=1)
        outcomes = list(synthesize(units, strategy, llm, engine))
    assert llm.calls > 3000
    assert len(outcomes) == len(units)
    for outcome in outcomes:
        assert outcome.failure is None or isinstance(outcome.failure.error, UnusableAnswer)
        if outcome.value is not None:
            assert _SECRET not in outcome.value.query


def test_a_negative_that_was_only_thought_about_is_asked_for_as_json() -> None:
    def answer(request: CompletionRequest) -> str:
        if request.schema is not None:
            return json.dumps(_filled(request.schema))
        return QUERY if request.max_tokens < 60 else THOUGHT

    llm = ScriptedLLM(answer)
    written = asyncio.run(
        build_strategy(SynthesisConfig(strategy="stepwise"), LLMConfig(), seed=1).write(WritingUnit(DOCUMENT), llm)
    )
    assert set(written.negatives.values()) == {PASSAGE}

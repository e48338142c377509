"""Graded completions in the columns that TRL's trainers read (checked with TRL 1.16).

    sft          prompt, completion                    accepted completions; `reward` may weigh them
    preference   prompt, chosen, rejected              of one prompt; `margin` is the difference of their rewards
    kto          prompt, completion, label             every completion that was judged

Trainers leave the other columns alone. Conversational values are lists of {role, content}; plain ones are texts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from multigrain.errors import SourceError
from multigrain.llm.protocol import Message
from multigrain.sources.words import fold_words

if TYPE_CHECKING:
    from multigrain.writer.grading import GradedCompletion

FormName = Literal["sft", "preference", "kto"]
FORMS: Final[Mapping[str, FormName]] = {name: name for name in get_args(FormName)}
"""The forms by name."""

_PAIRS_A_PROMPT: Final = 4


def trl_rows(
    completions: Sequence[GradedCompletion], form: FormName, *, conversational: bool = True
) -> list[dict[str, Any]]:
    """Rows for one of TRL's trainers.

    Args:
        completions: graded.
        form: which trainer's.
        conversational: messages, to which the trainer applies the model's chat template; False: plain texts.

    Raises:
        SourceError: there is nothing to learn from: no accepted completion, none rejected, or none of both for one
            prompt.
    """
    return list(_ROWS[form](completions, _conversation if conversational else _plain))


def preference_pairs(completions: Sequence[GradedCompletion]) -> list[tuple[GradedCompletion, GradedCompletion]]:
    """For each prompt its best accepted completion beside those that were rejected, four at most.

    Args:
        completions: graded; several of one prompt come from retries and from further draws.
    """
    by_prompt: dict[tuple[Message, ...], list[GradedCompletion]] = defaultdict(list)
    for completion in completions:
        by_prompt[completion.prompt].append(completion)
    pairs = []
    for answers in by_prompt.values():
        accepted = [answer for answer in answers if answer.accepted]
        if not accepted:
            continue
        chosen = max(accepted, key=lambda answer: answer.reward)
        seen = {fold_words(chosen.text)}
        for answer in answers:
            if not answer.accepted and (words := fold_words(answer.text)) not in seen:
                seen.add(words)
                pairs.append((chosen, answer))
                if len(seen) > _PAIRS_A_PROMPT:
                    break
    return pairs


_Form = Callable[[tuple[Message, ...], str], tuple[Any, Any]]


def _conversation(prompt: tuple[Message, ...], text: str) -> tuple[Any, Any]:
    messages = [{"role": message.role, "content": message.content} for message in prompt]
    return messages, [{"role": "assistant", "content": text}]


def _plain(prompt: tuple[Message, ...], text: str) -> tuple[Any, Any]:
    return "".join(f"{message.content}\n\n" for message in prompt), text


def _sft(completions: Sequence[GradedCompletion], form: _Form) -> Iterator[dict[str, Any]]:
    _require(completions, accepted=True)
    for answer in completions:
        if answer.accepted:
            prompt, completion = form(answer.prompt, answer.text)
            yield {"prompt": prompt, "completion": completion, **_facts(answer)}


def _preference(completions: Sequence[GradedCompletion], form: _Form) -> Iterator[dict[str, Any]]:
    _require(completions, accepted=True)
    _require(completions, accepted=False)
    pairs = preference_pairs(completions)
    if not pairs:
        raise SourceError(
            "no prompt has both an accepted and a rejected completion: let the writer answer each prompt more often "
            "(`multigrain writer tune --objective dpo` does), or write --format kto, which takes unpaired ones"
        )
    for chosen, rejected in pairs:
        prompt, good = form(chosen.prompt, chosen.text)
        yield {
            "prompt": prompt,
            "chosen": good,
            "rejected": form(rejected.prompt, rejected.text)[1],
            "margin": round(chosen.reward - rejected.reward, 6),
            "reasons": list(rejected.reasons),
            "id": chosen.row_id,
            "document_id": chosen.document_ids[0],
        }


def _kto(completions: Sequence[GradedCompletion], form: _Form) -> Iterator[dict[str, Any]]:
    _require(completions, accepted=True)
    _require(completions, accepted=False)
    for answer in completions:
        prompt, completion = form(answer.prompt, answer.text)
        facts = {**_facts(answer), "reasons": list(answer.reasons)}
        yield {"prompt": prompt, "completion": completion, "label": answer.accepted, **facts}


_ROWS: Final[Mapping[FormName, Callable[[Sequence[GradedCompletion], _Form], Iterator[dict[str, Any]]]]] = {
    "sft": _sft,
    "preference": _preference,
    "kto": _kto,
}


def _facts(answer: GradedCompletion) -> dict[str, Any]:
    return {"reward": answer.reward, "id": answer.row_id, "document_id": answer.document_ids[0]}


def _require(completions: Sequence[GradedCompletion], *, accepted: bool) -> None:
    if any(answer.accepted is accepted for answer in completions):
        return
    if accepted:
        raise SourceError(f"none of {len(completions)} judged completions was accepted: there is nothing to imitate")
    raise SourceError(
        f"none of {len(completions)} judged completions was rejected: preferences need both; write --format sft"
    )

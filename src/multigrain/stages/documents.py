"""Stage 1: read the documents or the pairs, or think of tasks; group near-duplicates, split."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from multigrain.config import Config
from multigrain.display.progress import telling_of_interrupt
from multigrain.engine.local import LocalEngine
from multigrain.errors import ConfigError, UnusableOutputError
from multigrain.llm.build import total_concurrency
from multigrain.llm.session.session import paid_session
from multigrain.records import Split, Task
from multigrain.sources.load import enough_titles, load_corpus
from multigrain.sources.pairs import load_pairs
from multigrain.sources.source import data_source
from multigrain.sources.store import write_document_table, write_query_table
from multigrain.sources.tasks import read_tasks, split_tasks, write_task_table
from multigrain.stages.base import STOPPING, RunContext, Stage
from multigrain.synthesis.brainstorm import BRAINSTORM, Brainstorm, brainstorm
from multigrain.synthesis.prompts import Prompts

_FEW: Final = 100
_SHARED: Final = 3  # documents to a title, from which it is said
_OFF: Final = 0.15  # of a side's share, from which it is said
_TWO_SIDED: Final = 1.96
_DEVIATION: Final = 0.2  # of a query's nDCG@10 between two models; .18 in the demo, more where models differ more


def run(context: RunContext, stage: Stage) -> None:
    """Get what the run starts from: its documents, its pairs, or its tasks."""
    work = {"documents": _read_documents, "pairs": _read_pairs, "tasks": _get_tasks}[context.config.start_from]
    stage.complete(context, lambda: work(context))


def _read_documents(context: RunContext) -> dict[str, Any]:
    config, run = context.config, context.run
    with context.progress.task("Reading documents", None):
        corpus = load_corpus(config.documents, seed=config.seed)
        run.forget_sources()
        write_document_table(run.documents_path, corpus.documents)
    counts = dict(corpus.counts)
    for line in document_lines(config, counts):
        context.progress.say(line)
    for line in data_source(config.documents).notes(config.documents):
        context.progress.say(f"documents: {line}")
    return counts


def document_lines(config: Config, counts: Mapping[str, Any]) -> Iterator[str]:
    """What became of the documents, for people: how many, which were left out, and what a test on so few can show."""
    line = (
        f"documents: {counts['documents']} from {counts['source']} "
        f"({counts['train']} to train on, {counts['validation']} validation, {counts['test']} test)"
    )
    reasons = {
        "too_short": f"shorter than documents.min_characters={config.documents.min_characters}",
        "repeated": "repeated",
        "unreadable": "unreadable",
    }
    left_out = [
        f"{counts[key]} {reason}" + (f" ({names})" if (names := counts.get(f"{key}_names")) else "")
        for key, reason in reasons.items()
        if counts.get(key)
    ]
    if left_out:
        line += f"; left out: {', '.join(left_out)}"
    yield line
    alike = counts["documents"] - counts["groups"]
    if cut := counts.get("chunked", 0):
        longer = "text was" if cut == 1 else "texts were"
        yield (
            f"documents: {cut} {longer} longer than documents.chunk_size={config.documents.chunk_size} words, and "
            "each chunk counts as a document; chunks of one text stay on one side of the split"
        )
    elif alike:
        yield f"documents: {alike} nearly {'repeats' if alike == 1 else 'repeat'} another, on whose side they stay"
    if divided := counts.get("divided", 0):
        yield (
            f"documents: more than half nearly repeat or share passages with each other, so the split divides them: "
            f"{divided} held-out {'one has a near-duplicate' if divided == 1 else 'ones have near-duplicates'} among "
            "those to train on, and test figures are too high for them"
        )
    chunks = ", and all chunks of a text," if cut else ""
    for side, share in (("validation", config.documents.validation_share), ("test", config.documents.test_share)):
        if counts["documents"] >= _FEW and abs(counts[side] / counts["documents"] - share) > _OFF:
            yield (
                f"documents: the {side} side holds {counts[side] / counts['documents']:.0%} of them, and "
                f"documents.{side}_share is {share:.0%}: large groups of near-duplicates{chunks} stay on one side. "
                "Leave out what texts repeat, or raise documents.near_duplicate_similarity (it is "
                f"{config.documents.near_duplicate_similarity:g})"
            )
    if config.evaluation.queries == "none" or any(labelled.role == "test" for labelled in config.evaluation.sets):
        return
    titled, titles = counts.get("test_titled", 0), counts.get("test_titles", 0)
    asks = config.evaluation.queries
    suffice = enough_titles(counts.get("held_out_titled", 0), counts["validation"] + counts["test"])
    by_title = titles > 0 and (asks == "titles" or (asks == "auto" and suffice))
    queries = titles if by_title else counts["test"]
    if by_title and titled >= _SHARED * titles:
        yield (
            f"documents: the {titled} test documents with a title share {titles} titles, so the test asks {titles} "
            "queries; with evaluation.queries: synthetic the language model writes one for each document instead"
        )
    if queries < _FEW:
        points = 100 * _TWO_SIDED * _DEVIATION / math.sqrt(max(queries, 1))
        yield (
            f"documents: a test of {queries} queries shows differences of more than about {points:.0f} points only; "
            "give documents for a few hundred at least, better a few thousand, or name a labelled set under "
            "evaluation.sets"
        )


def _read_pairs(context: RunContext) -> dict[str, Any]:
    config, run = context.config, context.run
    with context.progress.task("Reading pairs", None):
        pairs = load_pairs(config.pairs, config.documents, seed=config.seed)
        run.forget_sources()
        write_document_table(run.documents_path, pairs.documents)
        write_query_table(run.queries_path, pairs.queries)
    counts = pairs.counts
    context.progress.say(
        f"pairs: {counts['queries']} queries with {counts['pairs']} positives from {counts['source']}, "
        f"{counts['documents']} documents ({counts['train']} queries to train on, {counts['validation']} validation, "
        f"{counts['test']} test)"
    )
    for line in pairs.notes:
        context.progress.say(f"pairs: {line}")
    if counts["split_by"] == "queries":
        context.progress.say(
            "pairs: most queries share positives, so they are split by their own words: held-out queries may have "
            "positives that training saw"
        )
    return counts


def _get_tasks(context: RunContext) -> dict[str, Any]:
    config, run = context.config, context.run
    counts: dict[str, Any] = {}
    if config.tasks.path is not None:
        tasks = read_tasks(config.tasks.path)
        counts["source"] = str(config.tasks.path)
    else:
        ideas = _brainstorm(context)
        tasks = ideas.tasks
        counts |= {
            "source": "brainstorm",
            "suggested": ideas.suggested,
            "near_duplicates": ideas.near_duplicates,
            "unusable": ideas.unusable,
            "failed": dict(ideas.failed),
            "missing": {str(kind): count for kind, count in ideas.missing().items()},
        }
    tasks = split_tasks(tasks, config.tasks, config.documents)
    run.forget_sources()
    write_task_table(run.tasks_path, tasks)
    kinds = Counter(str(task.kind) for task in tasks)
    sides = Counter(task.split for task in tasks)
    counts |= {"tasks": len(tasks), "kinds": dict(kinds), **{str(side): sides[side] for side in Split}}
    context.progress.say(_summary(config, tasks, counts))
    return counts


def _brainstorm(context: RunContext) -> Brainstorm:
    config = context.config
    prompts = Prompts(config.synthesis.templates)
    prompts.check()
    with (
        telling_of_interrupt(context.progress, STOPPING),
        LocalEngine(concurrency=total_concurrency(config.llm)) as engine,
        paid_session(config, context.run, engine) as session,
        context.progress.task("Thinking of tasks", None) as task,
    ):
        ideas = brainstorm(
            config.tasks,
            session.client(BRAINSTORM),
            engine,
            config.llm,
            seed=config.seed,
            prompts=prompts,
            on_done=lambda _: task.advance(),
        )
    if ideas.failed.get("over_limit"):
        raise ConfigError(
            "tasks: the spending limit was reached before the tasks were found: "
            "raise synthesis.max_cost or synthesis.max_total_tokens"
        )
    if not ideas.tasks:
        failure = f" ({ideas.failure.kind}: {ideas.failure.detail})" if ideas.failure is not None else ""
        raise UnusableOutputError(
            f"model {session.model.identity}: no usable task came of {ideas.suggested} suggestions{failure}; "
            "write your own and name the file under tasks.path, or use a larger model"
        )
    return ideas


def _summary(config: Config, tasks: list[Task], counts: dict[str, Any]) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts["kinds"].items())
    line = f"tasks: {len(tasks)} from {counts['source']} ({kinds})"
    if counts.get("near_duplicates"):
        line += f"; {counts['near_duplicates']} of {counts['suggested']} suggestions repeated another"
    if counts.get("missing"):
        line += "; short of " + ", ".join(f"{count} {kind}" for kind, count in counts["missing"].items())
    return line

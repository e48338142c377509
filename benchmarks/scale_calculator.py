"""What a corpus of any size takes on paper: tokens, GPU hours, storage, memory and money, stage by stage.

    python -m benchmarks.scale_calculator                          # 100 million documents
    python -m benchmarks.scale_calculator --documents 1e7 --gpus 8 --json
    python -m benchmarks.scale_calculator --measure                # measures the per-unit figures here first

Per-unit figures are of two kinds. Measured ones come from `--measure` (bytes and seconds of this code on this machine;
the defaults are one such measurement, see `docs/scale.md`). Assumed ones are what we could not measure without GPUs
and an account: tokens a second of a served model, prices, texts a second of an encoder on a GPU. Each can be set by an
option of its name; `--json` gives all of them back, so that a result says what it rests on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for `python benchmarks/…`, without -m

__all__ = ["Figures", "Stage", "estimate", "measure"]


@dataclass(frozen=True)
class Figures:
    """What everything is computed from.

    Attributes:
        documents: how many.
        document_tokens: assumed; a passage of about 1,000 characters.
        queries_per_document: asked for.
        prompt_tokens: measured; the template's own, at 4 characters a token.
        completion_tokens: assumed; a query and four negatives of about 60 words.
        kept_share: assumed; rows that the audit keeps.
        dimensions: of the reference model.
        gpus: how many.
        gpu_hour: assumed; US dollars.
        llm_tokens_per_second: assumed; written by one GPU that serves a 7-8B model to many requests.
        llm_prompt_tokens_per_second: assumed; read by it, besides.
        encoder_texts_per_second: assumed; of a 100M-parameter encoder on one GPU at 256 tokens.
        train_rows_per_second: assumed; of a 7B model with LoRA on one GPU.
        train_steps: the paper's full run (notes).
        train_batch: LLM2Vec's.
        prompt_price: US dollars a million tokens of an API, for comparison.
        completion_price: the same, written.
        driver_seconds_per_row: measured; processor seconds of the driver, journal and all.
        journal_bytes_per_row: measured.
        dataset_bytes_per_row: measured; a graded row in Parquet.
        document_bytes_on_disk: measured; Parquet.
        minhash_seconds_per_document: measured; one core.
        minhash_bytes_per_document: of signatures and bands, in a temporary file.
        documents_memory_per_row: counted (a hash, a group, a side), since `bounded_memory.py` measures nothing that
            stands out of the noise; in the one process that runs the stage.
        synthesis_memory_per_row: likewise (a place in the order, one in the file).
        audit_memory_per_row: measured by `bounded_memory.py`, from 20,000 to 40,000 documents.
        training_memory_per_row: likewise, from 10,000 to 20,000, where it is larger.
        search_gflops: measured; of exact search on one core.
        gpu_search_gflops: assumed; float32 matrix products of one GPU, top-k included.
    """

    documents: float = 1e8
    document_tokens: float = 230
    queries_per_document: float = 1
    prompt_tokens: float = 228
    completion_tokens: float = 420
    kept_share: float = 0.7
    dimensions: float = 384
    gpus: float = 64
    gpu_hour: float = 2.5
    llm_tokens_per_second: float = 2500
    llm_prompt_tokens_per_second: float = 25_000
    encoder_texts_per_second: float = 3000
    train_rows_per_second: float = 25
    train_steps: float = 1600
    train_batch: float = 512
    prompt_price: float = 0.15
    completion_price: float = 0.6
    driver_seconds_per_row: float = 0.0005
    journal_bytes_per_row: float = 4800
    dataset_bytes_per_row: float = 1030
    document_bytes_on_disk: float = 400
    minhash_seconds_per_document: float = 0.00008
    minhash_bytes_per_document: float = 768
    documents_memory_per_row: float = 350
    synthesis_memory_per_row: float = 50
    audit_memory_per_row: float = 1040
    training_memory_per_row: float = 660
    search_gflops: float = 108
    gpu_search_gflops: float = 20_000


@dataclass(frozen=True)
class Stage:
    """What one stage takes.

    Attributes:
        name: the stage.
        tokens: read and written by the language model.
        gpu_hours: over all GPUs.
        core_hours: of one core.
        hours: wall-clock, with the GPUs asked for and one driver.
        storage_gb: on disk.
        driver_gb: memory of the one process that runs.
        dollars: for GPU hours.
    """

    name: str
    tokens: float = 0
    gpu_hours: float = 0
    core_hours: float = 0
    hours: float = 0
    storage_gb: float = 0
    driver_gb: float = 0
    dollars: float = 0


def estimate(figures: Figures) -> list[Stage]:
    """Every stage."""
    f = figures
    rows = f.documents * f.queries_per_document
    kept = rows * f.kept_share
    read, written = rows * (f.prompt_tokens + f.document_tokens), rows * f.completion_tokens
    llm_gpu = (written / f.llm_tokens_per_second + read / f.llm_prompt_tokens_per_second) / 3600
    driver = rows * f.driver_seconds_per_row / 3600
    embed_gpu = (f.documents + 5 * rows) / f.encoder_texts_per_second / 3600
    search = 2 * rows * f.documents * f.dimensions / 1e9
    train_gpu = f.train_steps * f.train_batch / f.train_rows_per_second / 3600
    grouping = f.documents * f.minhash_seconds_per_document / 3600
    return [
        Stage(
            "documents",
            core_hours=grouping,
            hours=grouping,
            storage_gb=f.documents * (f.document_bytes_on_disk + f.minhash_bytes_per_document) / 1e9,
            driver_gb=f.documents * f.documents_memory_per_row / 1e9,
        ),
        Stage(
            "synthesis",
            tokens=read + written,
            gpu_hours=llm_gpu,
            core_hours=driver,
            hours=max(llm_gpu / f.gpus, driver),
            storage_gb=rows * f.journal_bytes_per_row / 1e9,
            driver_gb=rows * f.synthesis_memory_per_row / 1e9,
            dollars=llm_gpu * f.gpu_hour,
        ),
        Stage(
            "audit: embedding",
            gpu_hours=embed_gpu,
            hours=embed_gpu / f.gpus,
            storage_gb=f.documents * f.dimensions * 4 / 1e9,
            dollars=embed_gpu * f.gpu_hour,
        ),
        Stage(
            "audit: exact search",
            gpu_hours=search / f.gpu_search_gflops / 3600,
            core_hours=search / f.search_gflops / 3600,
            hours=search / f.gpu_search_gflops / 3600 / f.gpus,
            storage_gb=kept * f.dataset_bytes_per_row / 1e9,
            driver_gb=rows * f.audit_memory_per_row / 1e9,
            dollars=search / f.gpu_search_gflops / 3600 * f.gpu_hour,
        ),
        Stage(
            "training",
            gpu_hours=train_gpu,
            hours=train_gpu / min(f.gpus, 8),
            driver_gb=kept * f.training_memory_per_row / 1e9,
            dollars=train_gpu * f.gpu_hour,
        ),
    ]


def measure(figures: Figures, rows: int = 2_000) -> Figures:
    """The measured figures, taken anew on this machine over so many rows."""
    import resource

    import numpy as np
    from rensa import RMinHash

    from multigrain.dataset.store import write_examples
    from multigrain.engine.local import LocalEngine
    from multigrain.llm.scripted import ScriptedLLM
    from multigrain.llm.session.journal import Journal
    from multigrain.llm.session.session import JournaledClient
    from multigrain.mining.search import top_k
    from multigrain.records import LEVELS, Document, GradedExample, Negative, Origin
    from multigrain.sources.store import write_document_table
    from multigrain.sources.words import word_ngrams
    from multigrain.synthesis.strategies.one_call import MghStrategy
    from multigrain.synthesis.strategies.protocol import WritingUnit
    from multigrain.synthesis.synthesize import synthesize

    chance = np.random.default_rng(0)
    words = [f"w{number:04d}" for number in range(5_000)]  # as long as English words and a space are

    def text(count: int) -> str:
        return " ".join(words[each] for each in chance.integers(0, len(words), count))

    documents = [Document(f"document-{number}", text(165)) for number in range(rows)]

    def answer(_: Any) -> str:
        return json.dumps({"query": text(8), **{f"level_{level}": text(60) for level in (4, 3, 2, 1)}})

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        before = resource.getrusage(resource.RUSAGE_SELF)
        with Journal(folder / "journal.sqlite") as journal, LocalEngine(concurrency=64) as engine:
            llm = ScriptedLLM(answer)
            client = JournaledClient(llm, journal, strategy="mgh")
            units = [WritingUnit(document) for document in documents]
            written = [each.value for each in synthesize(units, MghStrategy(), client, engine) if each.value]
        used = resource.getrusage(resource.RUSAGE_SELF)
        seconds = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
        asked = sum(len(message.content) for request in llm.requests for message in request.messages)
        journal_bytes = sum(path.stat().st_size for path in folder.glob("journal*"))
        write_document_table(folder / "documents.parquet", documents)
        examples = [
            GradedExample(
                row.id, row.document_id, row.query, row.positive,
                tuple(Negative(row.negatives[level], level, Origin.WRITTEN, 0.5, level) for level in LEVELS), 0.6,
            )  # type: ignore[arg-type]
            for row in written
        ]  # fmt: skip
        write_examples(folder / "graded.parquet", examples)
        began = time.process_time()
        for document in documents:
            RMinHash(num_perm=128, seed=7).update(sorted(word_ngrams(document.text)))
        minhash = time.process_time() - began
        corpus = chance.standard_normal((50_000, 384), dtype=np.float32)
        began = time.perf_counter()
        top_k(corpus[:2_048], corpus, 200)
        search = time.perf_counter() - began
        return replace(
            figures,
            prompt_tokens=(asked - sum(len(document.text) for document in documents)) / rows / 4,
            driver_seconds_per_row=seconds / len(written),
            journal_bytes_per_row=journal_bytes / len(written),
            dataset_bytes_per_row=(folder / "graded.parquet").stat().st_size / len(written),
            document_bytes_on_disk=(folder / "documents.parquet").stat().st_size / rows,
            minhash_seconds_per_document=minhash / rows,
            search_gflops=2 * 2_048 * len(corpus) * 384 / search / 1e9 / (os.cpu_count() or 1),
        )


def first_to_break(stages: list[Stage], figures: Figures, memory_gb: float) -> list[str]:
    """What does not fit one driver, worst first, in words."""
    found = [
        (
            each.driver_gb / memory_gb,
            f"{each.name}: {each.driver_gb:,.0f} GB in the driver's memory of {memory_gb:g} GB",
        )
        for each in stages
        if each.driver_gb > memory_gb
    ]
    synthesis = next(each for each in stages if each.name == "synthesis")
    if synthesis.core_hours > synthesis.gpu_hours / figures.gpus:
        found.append((1.0, "synthesis: the driver's one core is slower than the GPUs"))
    return [words for _, words in sorted(found, reverse=True)]


def main() -> None:
    """Compute and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--measure", action="store_true", help="measure this machine's figures first")
    parser.add_argument("--memory-gb", type=float, default=64, help="of the driver")
    for each in fields(Figures):
        parser.add_argument(f"--{each.name.replace('_', '-')}", type=float)
    arguments = parser.parse_args()
    given = {each.name: getattr(arguments, each.name) for each in fields(Figures)}
    figures = measure(Figures()) if arguments.measure else Figures()
    figures = replace(figures, **{name: value for name, value in given.items() if value is not None})
    stages = estimate(figures)
    breaks = first_to_break(stages, figures, arguments.memory_gb)
    tokens = sum(each.tokens for each in stages)
    rows = figures.documents * figures.queries_per_document
    api = rows * (
        (figures.prompt_tokens + figures.document_tokens) * figures.prompt_price
        + figures.completion_tokens * figures.completion_price
    )
    if arguments.json:
        values = {"figures": asdict(figures), "stages": [asdict(each) for each in stages], "breaks": breaks}
        print(json.dumps(values | {"tokens": tokens, "api_dollars": api / 1e6}))
        return
    print(f"{figures.documents:,.0f} documents, {figures.gpus:,.0f} GPUs\n")
    print("| stage | tokens | GPU hours | core hours | hours | disk, GB | driver, GB | US$ |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for each in stages:
        numbers = (each.gpu_hours, each.core_hours, each.hours, each.storage_gb, each.driver_gb, each.dollars)
        shown = " | ".join(f"{number:,.0f}" if number >= 10 else f"{number:.2g}" for number in numbers)
        print(f"| {each.name} | {each.tokens / 1e9:,.1f} G | {shown} |")
    print(f"\nThe same tokens from an API: ${api / 1e6:,.0f}; as batch files half of that.")
    for words in breaks:
        print(f"Breaks: {words}")


if __name__ == "__main__":
    main()

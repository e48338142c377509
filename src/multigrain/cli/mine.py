"""`multigrain mine`."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from multigrain.cli.console import print_json, quieten_libraries, terminal_progress
from multigrain.cli.model_options import TrustOption
from multigrain.cli.options import JsonOption
from multigrain.config import AuditConfig
from multigrain.errors import ConfigError


def mine(
    pairs: Annotated[
        Path,
        typer.Argument(
            metavar="PAIRS", help="Queries and positives: any table (JSONL, CSV, TSV, Parquet, hf:…), a pair a row."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="What is written: .parquet or .jsonl.")],
    corpus: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PLACE",
            help="Texts to choose from: a Parquet, JSONL, CSV or TSV file, a folder of them, a folder that datasets "
            "saved, hf:OWNER/NAME, a BEIR folder (its corpus), or an fsspec address. Repeat for more. Default: the "
            "positives of all pairs.",
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="The encoder: a folder, a hub id, package:NAME, auto.")] = "auto",
    query_prompt: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Put this before every query, e.g. 'query: '. Default: the model's own."),
    ] = None,
    document_prompt: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Put this before every positive and every text of the corpus, e.g. 'passage: '. Default: as above.",
        ),
    ] = None,
    trust_remote_code: TrustOption = False,
    store: Annotated[
        str | None,
        typer.Option(metavar="PLACE", help="Keeps the corpus' vectors, folder or address. Default: FILE.vectors."),
    ] = None,
    negatives: Annotated[int, typer.Option("--negatives", "-n", min=1, help="Negatives a query.")] = 5,
    graded: Annotated[
        bool, typer.Option("--graded", help="One negative each from four bands of ranks, level 1 (easiest) to 4.")
    ] = False,
    first_rank: Annotated[int, typer.Option(min=0, help="Pass over candidates nearer than this rank.")] = 0,
    last_rank: Annotated[int | None, typer.Option(min=1, help="Where --sampling random stops.")] = None,
    margin: Annotated[
        float | None,
        typer.Option(min=0, max=2, help="Negatives are at least this much less similar than the positive."),
    ] = None,
    relative_margin: Annotated[
        float | None, typer.Option(min=0, max=1, help="The same as a share of the positive's similarity, e.g. 0.05.")
    ] = None,
    max_similarity: Annotated[
        float | None, typer.Option(min=-1, max=1, help="No negative is nearer to the query than this.")
    ] = None,
    sampling: Annotated[Literal["top", "random"], typer.Option(help="The nearest, or drawn from the ranks.")] = "top",
    rank_by: Annotated[
        Literal["dense", "lexical", "both"],
        typer.Option(help="Vectors, BM25 (texts in memory), or both by reciprocal rank."),
    ] = "dense",
    approximate: Annotated[
        float | None,
        typer.Option(
            metavar="RECALL", min=0.5, max=1, help="Search by HNSW where it measures this recall; extra `ann`."
        ),
    ] = None,
    form: Annotated[
        Literal["n-tuple", "triplet", "labeled-list"], typer.Option("--format", help="sentence-transformers' columns.")
    ] = "n-tuple",
    scores: Annotated[bool, typer.Option("--scores", help="Add the similarities as a column.")] = False,
    query_field: Annotated[
        str | None, typer.Option(help="Column of PAIRS. Default: query, anchor, question, sentence1, …")
    ] = None,
    positive_field: Annotated[
        str | None, typer.Option(help="Column of PAIRS. Default: positive, answer, passage, document, text, …")
    ] = None,
    text_field: Annotated[
        str, typer.Option(help="Column of the corpus; a title, where there is one, is put in front of it.")
    ] = "text",
    batch_size: Annotated[int, typer.Option(min=1, help="Texts encoded at once.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn.")] = 13,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Embed and search on the engine of this config, e.g. on a Ray cluster."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what there is to do, and do nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Mine hard negatives from a corpus for pairs of queries and positives.

    The corpus' vectors are kept in shards: killed, the same command continues where it stopped. Negatives are never
    the same text as a positive of their query, in other case or spacing either.
    """
    if graded and (first_rank or last_rank is not None or sampling != "top"):
        raise ConfigError("--graded has ranks of its own: leave --first-rank, --last-rank and --sampling out")
    quieten_libraries()
    from multigrain.config.file import load_config
    from multigrain.encoders.reference import deferred_encoder
    from multigrain.engine.build import build_engine
    from multigrain.mining.corpus import CorpusFiles, TextList
    from multigrain.mining.job import mine as mine_pairs
    from multigrain.mining.job import plan, read_pairs, store_fingerprint
    from multigrain.mining.rules import MiningRules

    rules = MiningRules(
        negatives=negatives,
        first_rank=first_rank,
        last_rank=last_rank,
        absolute_margin=margin,
        relative_margin=relative_margin,
        max_similarity=max_similarity,
        bands=AuditConfig().bands if graded else None,
        sampling=sampling,
        fuse=rank_by,
        seed=seed,
    )
    asked = read_pairs(pairs, query_field, positive_field)
    texts = (
        CorpusFiles(tuple(corpus), text_field)
        if corpus
        else TextList(list(dict.fromkeys(text for positives in asked.positives for text in positives)))
    )
    encoder = deferred_encoder(
        model,
        batch_size=batch_size,
        trust_remote_code=trust_remote_code,
        query_prompt=query_prompt,
        document_prompt=document_prompt,
    )
    place = store or f"{out}.vectors"
    progress = terminal_progress()
    for line in asked.notes:
        progress.say(line)
    if dry_run:
        planned = asdict(plan(asked, texts, place, store_fingerprint(encoder)))
        if as_json:
            print_json(planned)
            return
        progress.say(
            f"{planned['queries']} queries with {planned['pairs']} positives; {planned['corpus']} texts, "
            f"{planned['embedded']} of them embedded already; nothing was done"
        )
        return
    with build_engine(load_config(config).engine) if config is not None else nullcontext() as engine:
        done = mine_pairs(
            asked,
            texts,
            rules,
            encoder,
            store=place,
            out=out,
            form=form,
            scores=scores,
            recall=approximate,
            engine=engine,
            progress=progress,
        )
    for line in texts.notes() if isinstance(texts, CorpusFiles) else ():
        progress.say(line)
    facts = encoder.facts
    if as_json:
        print_json({"out": str(out), **asdict(done), "facts": None if facts is None else asdict(facts)})
        return
    short = f"; {done.short} queries have fewer than were asked for" if done.short else ""
    progress.say(f"{out}: {done.rows} rows, {done.negatives} negatives from {done.corpus} texts{short}")
    if facts is not None:
        progress.say(f"{model}: {facts}")

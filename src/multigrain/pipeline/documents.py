"""Stage 1: read the documents, group near-duplicates, split."""

from __future__ import annotations

from typing import Any

from multigrain.pipeline.context import RunContext, complete_stage
from multigrain.pipeline.identity import documents_identity
from multigrain.rundir import StageManifest
from multigrain.sources.load import load_corpus
from multigrain.sources.store import write_document_table

__all__ = ["documents_stage"]


def documents_stage(context: RunContext) -> StageManifest:
    """Read and split the run's documents."""
    config = context.config

    def work() -> dict[str, Any]:
        with context.progress.task("Reading documents", None):
            corpus = load_corpus(config.documents, seed=config.seed)
            write_document_table(context.run.documents_path, corpus.documents)
        counts = corpus.counts
        context.progress.say(
            f"documents: {counts['documents']} from {counts['source']} "
            f"({counts['train']} to train on, {counts['validation']} validation, {counts['test']} test)"
        )
        return counts

    return complete_stage(context, "documents", documents_identity(config), work)

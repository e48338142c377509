"""Held-out queries: written by a model for documents that training never sees, and kept on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from multigrain.config import LLMConfig
from multigrain.engine.protocol import Engine, Outcome
from multigrain.llm.protocol import CompletionRequest, LLMClient
from multigrain.records import Document
from multigrain.synthesis.plain_text import ask_for_query
from multigrain.synthesis.prompts import BUILT_IN, Prompts
from multigrain.synthesis.style import StyleQueries

HELDOUT: Final = "heldout"
"""What the journal calls the one who asks for held-out queries."""

_HELDOUT_TOKENS: Final = 48


def write_heldout_queries(
    documents: Sequence[Document],
    client: LLMClient,
    engine: Engine,
    llm: LLMConfig,
    *,
    characters: int,
    seed: int,
    prompts: Prompts = BUILT_IN,
    stop: Callable[[], bool] | None = None,
    style: StyleQueries | None = None,
) -> Iterator[Outcome[Document, str]]:
    """Write one evaluation query for each held-out document, with a prompt that training never uses.

    Args:
        documents: validation and test documents.
        client: the model.
        engine: where the work runs.
        llm: its sampling.
        characters: how much of a document the model is shown.
        seed: of the sampler.
        prompts: the templates.
        stop: asked before each query; True starts no further one.
        style: queries of the user's own that these shall sound like, and must not repeat.
    """

    async def write(document: Document) -> str:
        messages = prompts.render("heldout_query", document=document.text[:characters])
        request = CompletionRequest(
            messages=messages if style is None else style.before(messages, prompts, document.id),
            temperature=llm.temperature,
            top_p=llm.top_p,
            max_tokens=_HELDOUT_TOKENS,
            seed=seed,
            stop=("\n",),
            room=llm.max_tokens,
            asked_by=HELDOUT,  # whichever strategy writes the rows, these stay what they are
        )
        query = await ask_for_query(client, request)
        if style is not None:
            style.check(query)
        return query

    return engine.map(write, documents, stop=stop)


def dump_heldout_queries(queries: Mapping[str, str]) -> str:
    """Document ids and their queries as JSON lines."""
    return "".join(
        json.dumps({"document_id": identifier, "query": query}, ensure_ascii=False) + "\n"
        for identifier, query in queries.items()
    )


def read_heldout_queries(path: Path) -> dict[str, str]:
    """Read what `dump_heldout_queries` made; a file that is not there holds none."""
    if not path.exists():
        return {}
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line)
    return {row["document_id"]: row["query"] for row in rows}

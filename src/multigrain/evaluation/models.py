"""Any number of models on any sets, side by side: folders, hub ids, pooling variants, served models, BM25."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, cast, get_args

from sentence_transformers import SentenceTransformer

from multigrain.config import EvaluationSetConfig, PoolingName
from multigrain.display.progress import Progress, SilentProgress
from multigrain.encoders.cache import CachedEncoder
from multigrain.encoders.encoder import Encoder, SentenceTransformerEncoder, model_fingerprint
from multigrain.encoders.served import SERVED, ServedEncoder, served_name
from multigrain.errors import EvaluationError
from multigrain.evaluation.lexical import BM25Retriever
from multigrain.evaluation.retrieval import DenseRetriever, Retriever
from multigrain.evaluation.score_store import ScoreStore
from multigrain.evaluation.scoring import Scored, score_model, score_retriever
from multigrain.evaluation.sets.loading import MTEB, OpenedSets
from multigrain.evaluation.sets.retrieval_set import Role
from multigrain.model.encoder import build_encoder

__all__ = [
    "BM25",
    "Contender",
    "Encoding",
    "load_contender",
    "open_retriever",
    "parse_contender",
    "parse_set",
    "score_contenders",
    "with_poolings",
    "with_prompts",
]

BM25: Final = "bm25"

_NAMED: Final = re.compile(r"(?P<name>[\w.-]+)=(?P<rest>.+)", re.DOTALL)
_NAMED_PROMPT: Final = re.compile(r"(?P<name>[\w./@:-]+)=")
_POOLINGS: Final = get_args(PoolingName)
_SERVED_BATCHES: Final = 8
_LOCAL_CHUNK: Final = 2_048
_OWN_FILES: Final = ("queries", "documents", "qrels")


@dataclass(frozen=True, slots=True)
class Contender:
    """A model that takes part.

    Attributes:
        name: what tables call it.
        reference: `bm25`, a folder, a hub id, `package:NAME`, `auto`, or a served model (`served.SERVED`).
        pooling: keep (its own), or the pooling that replaces it.
        query_prompt: put before every query; None for the model's own prompt, if it has one.
        document_prompt: put before every document; None as above.
    """

    name: str
    reference: str
    pooling: PoolingName = "keep"
    query_prompt: str | None = None
    document_prompt: str | None = None


@dataclass(frozen=True, slots=True)
class Encoding:
    """How models are loaded and texts encoded.

    Attributes:
        batch_size: texts encoded at once.
        cache: a folder that keeps embeddings between commands; None keeps them for this one only.
        device: where models run; None lets sentence-transformers choose.
        trust_remote_code: run code that comes with models.
        scores: a folder that keeps scores, so that an interrupted call goes on; None keeps none.
    """

    batch_size: int = 64
    cache: Path | None = None
    device: str | None = None
    trust_remote_code: bool = False
    scores: Path | None = None


def parse_contender(text: str) -> Contender:
    """Understand `[NAME=]REFERENCE[@POOLING]`, e.g. `tuned=runs/mine/model`, `auto@cls`, `openai:NAME` or `bm25`.

    Raises:
        EvaluationError: an unknown pooling, or one for BM25 or a served model.
    """
    named = _NAMED.fullmatch(text)
    name, rest = (named["name"], named["rest"]) if named else (None, text)
    if rest.startswith(SERVED):
        model, _ = served_name(rest)
        if not model or model.rpartition("@")[2] in _POOLINGS:
            raise EvaluationError(
                f"model {text!r}: expected {SERVED}MODEL or {SERVED}MODEL@http://HOST/v1, without a pooling"
            )
        return Contender(name or model, rest)
    reference, at, pooling = rest.rpartition("@")
    if not at or "/" in pooling:  # an @ inside a path belongs to the path
        reference, pooling = rest, "keep"
    if pooling not in _POOLINGS:
        raise EvaluationError(f"model {text!r}: unknown pooling {pooling!r}; known: {', '.join(_POOLINGS)}")
    if reference == BM25 and pooling != "keep":
        raise EvaluationError(f"model {text!r}: BM25 pools nothing; leave @{pooling} out")
    return Contender(name or rest.rstrip("/"), reference, cast("PoolingName", pooling))


def parse_set(
    text: str, role: Role, max_queries: int | None = None, max_documents: int | None = None
) -> EvaluationSetConfig:
    """Understand `[NAME=]PATH` or `[NAME=]QUERIES,DOCUMENTS,QRELS`; a set without a name is called after its path.

    Args:
        text: the option's value.
        role: what the set is for.
        max_queries: take a sample of this many queries; MTEB tasks are taken whole.
        max_documents: take a sample of this many documents.
    """
    named = _NAMED.fullmatch(text)
    path = named["rest"] if named else text
    files = path.split(",")
    own = len(files) == len(_OWN_FILES) and not Path(path).exists()
    inside = Path(files[-1].removeprefix("package:").removeprefix(MTEB))
    own_name = f"{inside.parent.name}-{inside.stem}" if path.startswith("package:") else inside.stem
    whole = path.startswith(MTEB)
    return EvaluationSetConfig(
        name=named["name"] if named else own_name,
        role="forgetting" if role == "forgetting" else "test",
        max_queries=None if whole else max_queries,
        max_documents=None if whole else max_documents,
        **(dict(zip(_OWN_FILES, files, strict=True)) if own else {"path": path}),
    )


def with_poolings(contenders: Sequence[Contender], poolings: Sequence[PoolingName]) -> list[Contender]:
    """Every model with each of some poolings; BM25 and served models, where nothing is pooled here, once."""
    return [
        variant
        for each in contenders
        for variant in (
            [each]
            if _pools_nothing(each) or not poolings
            else [replace(each, name=f"{each.name}@{pooling}", pooling=pooling) for pooling in poolings]
        )
    ]


def with_prompts(
    contenders: Sequence[Contender], *, queries: Sequence[str], documents: Sequence[str]
) -> list[Contender]:
    """Models with prompts of the user's own; each is `TEXT` for all models, or `MODEL=TEXT` for one.

    A model that takes part with several poolings is meant with all of them, unless its name says which.

    Raises:
        EvaluationError: a text looks like a prompt for one model, and there is no such model.
    """
    names = {known for each in contenders for known in (each.name, _without_pooling(each))}
    for text in (*queries, *documents):
        named = _NAMED_PROMPT.match(text)
        if named is not None and named["name"] not in names:
            raise EvaluationError(
                f"prompt {text!r}: no model is called {named['name']!r}; there are {', '.join(sorted(names))}. "
                "To put this very text before the texts of a model: MODEL=TEXT"
            )

    def prompt(contender: Contender, given: Sequence[str]) -> str | None:
        split = [(each.partition("=")[0], each) for each in given]
        for name in (contender.name, _without_pooling(contender)):
            for model, text in split:
                if model == name:
                    return text.partition("=")[2]
        return next((text for model, text in split if model not in names), None)

    return [
        replace(each, query_prompt=prompt(each, queries), document_prompt=prompt(each, documents))
        for each in contenders
    ]


def score_contenders(
    contenders: Sequence[Contender], sets: OpenedSets, encoding: Encoding, *, progress: Progress | None = None
) -> Scored:
    """Score every model on every set, one model in memory at a time.

    BM25 has no vectors: it takes part in retrieval sets only.

    Raises:
        EvaluationError: two models have one name, a model gives unusable vectors, or a task's data is out of reach.
        ModelError: a model cannot be loaded, or needs remote code.
        MissingExtraError: a model's package is not installed.
    """
    names = [each.name for each in contenders]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise EvaluationError(f"two models are called {repeated!r}; name them: NAME=REFERENCE")
    found = Scored()
    for contender in contenders:
        if contender.reference == BM25:
            score_retriever(contender.name, BM25Retriever(), sets, found)
            continue
        with _encoding(contender, encoding) as (model, encoder, identity):
            score_model(
                contender.name,
                model,
                encoder,
                sets,
                found,
                progress=progress or SilentProgress(),
                batch_size=encoding.batch_size,
                kept=ScoreStore(encoding.scores, identity),
            )
    return found


@contextmanager
def open_retriever(contender: Contender, encoding: Encoding) -> Iterator[Retriever]:
    """A model, or BM25, as something that ranks documents.

    Raises:
        ModelError: it cannot be loaded, or needs remote code.
        MissingExtraError: its package is not installed.
    """
    if contender.reference == BM25:
        yield BM25Retriever()
        return
    with _encoding(contender, encoding) as (_, encoder, _):
        yield DenseRetriever(encoder)


@contextmanager
def _encoding(
    contender: Contender, encoding: Encoding
) -> Iterator[tuple[SentenceTransformer | None, CachedEncoder, str]]:
    """A contender's model where it runs here, its encoder behind a cache, and its identity."""
    model: SentenceTransformer | None = None
    encoder: Encoder
    if contender.reference.startswith(SERVED):
        encoder = served = ServedEncoder(
            contender.reference,
            batch_size=encoding.batch_size,
            query_prompt=contender.query_prompt or "",
            document_prompt=contender.document_prompt or "",
        )
        # What was paid for is kept soon.
        identity, chunk = served.identity, _SERVED_BATCHES * encoding.batch_size
    else:
        model = load_contender(contender, encoding)
        encoder = SentenceTransformerEncoder(model, batch_size=encoding.batch_size)
        identity, chunk = model_fingerprint(model), _LOCAL_CHUNK
    with closing(CachedEncoder(encoder, identity, encoding.cache, chunk=chunk)) as cached:
        yield model, cached, identity


def _without_pooling(contender: Contender) -> str:
    return contender.name.removesuffix(f"@{contender.pooling}")


def _pools_nothing(contender: Contender) -> bool:
    return contender.reference == BM25 or contender.reference.startswith(SERVED)


def load_contender(contender: Contender, encoding: Encoding) -> SentenceTransformer:
    """Load a model with its pooling and prompts.

    Raises:
        ModelError: it cannot be loaded, or needs remote code.
        MissingExtraError: its package is not installed.
    """
    model = build_encoder(
        contender.reference,
        pooling=contender.pooling,
        device=encoding.device,
        trust_remote_code=encoding.trust_remote_code,
    )
    for kind, prompt in (("query", contender.query_prompt), ("document", contender.document_prompt)):
        if prompt is not None:
            model.prompts[kind] = prompt
    return model

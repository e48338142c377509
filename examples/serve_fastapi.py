"""Serve a tuned model, ATA pooling included, behind /v1/embeddings, and a reranker behind /v1/rerank beside it.

    pip install multigrain fastapi uvicorn
    MODEL=runs/handbook/model uvicorn --app-dir examples serve_fastapi:app --port 8000

    from openai import OpenAI
    client = OpenAI(base_url="http://localhost:8000/v1", api_key="unused")
    client.embeddings.create(model="handbook", input=["how do I rotate the logs?"])

With RERANKER=runs/handbook/models/reranker the same process sorts documents again, as vLLM, Jina and Cohere have it
(`{"query": …, "documents": […], "top_n": 10}` to /v1/rerank or /rerank), or as text-embeddings-inference has it
(`{"query": …, "texts": […]}` to /rerank).

Where the model has prompts, `extra_body={"prompt_name": "query"}` puts one of them before every text. Requests that
wait are embedded together, in batches of BATCH_TOKENS tokens. At most MOST_WAITING texts wait: further requests get
status 503 and may come again. One process is one model on one device: for more, run several behind a load balancer.
Set API_KEY to ask callers for it.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sentence_transformers import CrossEncoder

import multigrain
from multigrain.encoders.batches import TOKENS, token_batches

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sentence_transformers import SentenceTransformer

MOST_TEXTS = 2048  # a request, as OpenAI's own endpoint
MOST_WAITING = 4096  # texts
GPU_TOKENS = 32_768  # of a batch; a CPU is fastest on as much as its caches hold


@dataclass(eq=False)
class Job:
    """One text that waits for its vector, or one pair of query and document that waits for its score."""

    text: Any
    prompt: str | None
    answer: asyncio.Future[tuple[Any, int]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Batcher:
    """Embeds the texts of all requests that wait, one batch at a time: what arrives meanwhile is the next batches'."""

    def __init__(self, model: SentenceTransformer | CrossEncoder) -> None:
        self.model = model
        default = TOKENS if model.device.type == "cpu" else GPU_TOKENS
        self.tokens = int(os.environ.get("BATCH_TOKENS", default))
        self.most_waiting = int(os.environ.get("MOST_WAITING", MOST_WAITING))
        self.waiting: list[Job] = []
        self.unfinished = 0
        self.arrived = asyncio.Event()

    async def embed(self, texts: list[Any], prompt: str | None) -> tuple[list[Any], int]:
        """The texts' vectors, or the pairs' scores, and how many tokens were read."""
        if self.unfinished and self.unfinished + len(texts) > self.most_waiting:
            raise HTTPException(503, f"{self.unfinished} texts wait already; try again", {"Retry-After": "1"})
        jobs = [Job(text, prompt) for text in texts]
        self.unfinished += len(jobs)
        try:
            self.waiting += jobs
            self.arrived.set()
            answers = await asyncio.gather(*(job.answer for job in jobs))
        finally:
            self.unfinished -= len(jobs)
        return [vector for vector, _ in answers], sum(tokens for _, tokens in answers)

    async def run(self) -> None:
        """Embed what waits, for ever."""
        while True:
            await self.arrived.wait()
            self.arrived.clear()
            jobs, self.waiting = [job for job in self.waiting if not job.answer.done()], []
            for batch in await asyncio.to_thread(self.batches, jobs):
                try:
                    vectors = await asyncio.to_thread(self.vectors, [job for job, _ in batch])
                except Exception as error:  # whatever a model raises is the answer to this batch alone
                    for job, _ in batch:
                        if not job.answer.done():
                            job.answer.set_exception(error)
                    continue
                for (job, tokens), vector in zip(batch, vectors, strict=True):
                    if not job.answer.done():
                        job.answer.set_result((vector, tokens))

    def batches(self, jobs: list[Job]) -> list[list[tuple[Job, int]]]:
        """Jobs of one prompt together, by tokens, each with its number of tokens."""
        batches = []
        for _, group in groupby(sorted(jobs, key=lambda job: job.prompt or ""), lambda job: job.prompt):
            own = list(group)
            lengths = self.lengths(own)
            split = token_batches(lengths, self.tokens)
            batches += [[(own[place], lengths[place]) for place in places] for places in split]
        return batches

    def lengths(self, jobs: list[Job]) -> list[int]:
        """Tokens of each text that are read."""
        limit = self.model.max_seq_length
        texts = [(self.model.prompts[job.prompt] if job.prompt else "") + job.text for job in jobs]
        tokens = self.model.tokenizer(texts, truncation=limit is not None, max_length=limit)
        return [len(ids) for ids in tokens["input_ids"]]

    def vectors(self, jobs: list[Job]) -> Any:
        """Vectors of one batch, in float32."""
        texts, prompt = [job.text for job in jobs], jobs[0].prompt
        vectors = self.model.encode(texts, prompt_name=prompt, batch_size=len(texts), show_progress_bar=False)
        return np.asarray(vectors, dtype="<f4")


class PairBatcher(Batcher):
    """Scores the pairs of all requests that wait, in batches of tokens too."""

    def lengths(self, jobs: list[Job]) -> list[int]:
        """Tokens of each pair that are read."""
        queries, documents = ([job.text[side] for job in jobs] for side in (0, 1))
        tokens = self.model.tokenizer(queries, documents, truncation=True, max_length=self.model.max_seq_length)
        return [len(ids) for ids in tokens["input_ids"]]

    def vectors(self, jobs: list[Job]) -> Any:
        """Log-odds of one batch of pairs."""
        pairs = [job.text for job in jobs]
        return self.model.predict(
            pairs, batch_size=len(pairs), activation_fn=torch.nn.Identity(), show_progress_bar=False
        )


class EmbeddingRequest(BaseModel):
    """What `POST /v1/embeddings` takes; fields of OpenAI's that mean nothing here are ignored."""

    input: str | list[str] = Field(min_length=1)
    model: str = ""
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    prompt_name: str | None = None


class Passage(BaseModel):
    """A document as some clients write it."""

    text: str


class RerankRequest(BaseModel):
    """What `POST /v1/rerank` takes: `documents` as vLLM, Jina and Cohere name them, `texts` as TEI does."""

    query: str
    documents: list[str | Passage] | None = None
    texts: list[str] | None = None
    model: str = ""
    top_n: int | None = Field(default=None, ge=1)
    return_documents: bool = False
    raw_scores: bool = False
    return_text: bool = False


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load the model once, before the first request."""
    path = os.environ["MODEL"]
    app.state.name = os.environ.get("MODEL_NAME", Path(path).parent.name or path)
    app.state.batcher = Batcher(multigrain.load(path))
    work = [asyncio.create_task(app.state.batcher.run())]
    app.state.pairs = None
    if reranker := os.environ.get("RERANKER"):
        app.state.pairs = PairBatcher(CrossEncoder(reranker))
        work.append(asyncio.create_task(app.state.pairs.run()))
    yield
    for task in work:
        task.cancel()


app = FastAPI(title="multigrain embeddings", lifespan=lifespan)


def allowed(authorization: Annotated[str, Header()] = "") -> None:
    """Refuse callers without the key, where one is set."""
    key = os.environ.get("API_KEY")
    if key and not hmac.compare_digest(authorization.encode(), f"Bearer {key}".encode()):
        raise HTTPException(401, "a valid API key is needed: Authorization: Bearer KEY")


@app.exception_handler(HTTPException)
async def openai_error(request: Any, error: HTTPException) -> JSONResponse:
    """Errors in the form that OpenAI clients read."""
    body = {"message": error.detail, "type": "invalid_request_error", "param": None, "code": None}
    return JSONResponse({"error": body}, status_code=error.status_code, headers=error.headers)


@app.get("/health")
async def health() -> dict[str, str]:
    """Answers once the model is loaded."""
    return {"status": "ok"}


@app.get("/v1/models", dependencies=[Depends(allowed)])
async def models() -> dict[str, Any]:
    """The one model that is served."""
    return {"object": "list", "data": [{"id": app.state.name, "object": "model", "owned_by": "multigrain"}]}


@app.post("/v1/embeddings", dependencies=[Depends(allowed)])
async def embeddings(request: EmbeddingRequest) -> dict[str, Any]:
    """Embed one text or several."""
    model = app.state.batcher.model
    texts = [request.input] if isinstance(request.input, str) else request.input
    if len(texts) > MOST_TEXTS:
        raise HTTPException(400, f"{len(texts)} texts in one request; send at most {MOST_TEXTS}")
    if request.dimensions not in (None, model.get_embedding_dimension()):
        raise HTTPException(400, f"this model gives {model.get_embedding_dimension()} dimensions and no other number")
    if request.prompt_name is not None and request.prompt_name not in model.prompts:
        raise HTTPException(400, f"no prompt {request.prompt_name!r}; this model has: {', '.join(model.prompts)}")

    vectors, used = await app.state.batcher.embed(texts, request.prompt_name)
    return {
        "object": "list",
        "model": app.state.name,
        "data": [
            {
                "object": "embedding",
                "index": number,
                "embedding": base64.b64encode(vector.tobytes()).decode()
                if request.encoding_format == "base64"
                else vector.tolist(),
            }
            for number, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": used, "total_tokens": used},
    }


@app.post("/v1/rerank", dependencies=[Depends(allowed)])
@app.post("/rerank", dependencies=[Depends(allowed)])
async def rerank(request: RerankRequest) -> Any:
    """Sort documents by how well they answer a query, the best first; scores are probabilities."""
    if app.state.pairs is None:
        raise HTTPException(404, "no reranker is served; set RERANKER to its folder")
    given: list[Any] = request.texts if request.documents is None else request.documents
    if not given or len(given) > MOST_TEXTS:
        raise HTTPException(400, f"{len(given or [])} documents in one request; send 1 to {MOST_TEXTS}")
    texts = [each if isinstance(each, str) else each.text for each in given]
    logits, used = await app.state.pairs.embed([(request.query, text) for text in texts], None)
    scores = [float(logit if request.raw_scores else 1 / (1 + np.exp(-logit))) for logit in logits]
    order = sorted(range(len(texts)), key=lambda number: -scores[number])
    if request.documents is None:  # text-embeddings-inference's form
        shown = ({"text": texts[number]} if request.return_text else {} for number in order)
        return [{"index": number, "score": scores[number], **text} for number, text in zip(order, shown, strict=True)]
    return {
        "model": request.model or "reranker",
        "results": [
            {
                "index": number,
                "relevance_score": scores[number],
                **({"document": {"text": texts[number]}} if request.return_documents else {}),
            }
            for number in order[: request.top_n]
        ],
        "usage": {"prompt_tokens": used, "total_tokens": used},
    }

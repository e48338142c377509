"""Serve a tuned model, ATA pooling included, behind an OpenAI-compatible /v1/embeddings.

    pip install multigrain fastapi uvicorn
    MODEL=runs/handbook/model uvicorn --app-dir examples serve_fastapi:app --port 8000

    from openai import OpenAI
    client = OpenAI(base_url="http://localhost:8000/v1", api_key="unused")
    client.embeddings.create(model="handbook", input=["how do I rotate the logs?"])

Where the model has prompts, `extra_body={"prompt_name": "query"}` puts one of them before every text. Requests that
arrive together are embedded one batch after the other: one process is one model on one device. For more, run several
behind a load balancer. Set API_KEY to ask callers for it.
"""

from __future__ import annotations

import base64
import hmac
import os
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

import multigrain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MOST_TEXTS = 2048  # a request, as OpenAI's own endpoint


class EmbeddingRequest(BaseModel):
    """What `POST /v1/embeddings` takes; fields of OpenAI's that mean nothing here are ignored."""

    input: str | list[str] = Field(min_length=1)
    model: str = ""
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    prompt_name: str | None = None


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load the model once, before the first request."""
    path = os.environ["MODEL"]
    app.state.name = os.environ.get("MODEL_NAME", Path(path).parent.name or path)
    app.state.model = multigrain.load(path)
    app.state.lock = Lock()
    yield


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
    return JSONResponse({"error": body}, status_code=error.status_code)


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
    model = app.state.model
    texts = [request.input] if isinstance(request.input, str) else request.input
    if len(texts) > MOST_TEXTS:
        raise HTTPException(400, f"{len(texts)} texts in one request; send at most {MOST_TEXTS}")
    if request.dimensions not in (None, model.get_embedding_dimension()):
        raise HTTPException(400, f"this model gives {model.get_embedding_dimension()} dimensions and no other number")
    if request.prompt_name is not None and request.prompt_name not in model.prompts:
        raise HTTPException(400, f"no prompt {request.prompt_name!r}; this model has: {', '.join(model.prompts)}")

    def embed() -> tuple[np.ndarray[Any, Any], int]:
        with app.state.lock:  # fast tokenizers set their padding for each call, and are shared
            prompt = model.prompts[request.prompt_name] if request.prompt_name else ""
            asked, limit = [prompt + text for text in texts], model.max_seq_length
            tokens = model.tokenizer(asked, truncation=limit is not None, max_length=limit)
            vectors = model.encode(texts, prompt_name=request.prompt_name, show_progress_bar=False)
        return np.asarray(vectors, dtype="<f4"), sum(map(len, tokens["input_ids"]))

    vectors, used = await run_in_threadpool(embed)
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

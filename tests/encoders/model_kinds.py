"""Kinds of model folders, one line each, and the parts of the product that embed texts with them."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper
from mteb.types import PromptType
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Router
from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator
from sentence_transformers.util import batch_to_device
from torch.utils.data import DataLoader

from multigrain.config.file import parse_config
from multigrain.encoders import reference
from multigrain.encoders.encoder import SentenceTransformerEncoder
from multigrain.encoders.models import Encoding, ModelSpec, open_encoder
from multigrain.encoders.protocol import Floats
from multigrain.encoders.served import ServedEncoder
from multigrain.evaluation.sets.mteb_tasks import as_mteb_task
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.export.parity import model_vectors
from multigrain.model.encoder import build_candidate, build_encoder, load, save_candidate
from multigrain.model.prompts import document_prompt, query_prompt
from multigrain.training.train import column_prompts, column_routes

from .embedding_server import EmbeddingServer

Vectors = tuple[Floats, Floats]
Embed = Callable[[Sequence[str]], Vectors]
"""Texts to their vectors as queries and as documents."""


@dataclass(frozen=True)
class ModelKind:
    """A kind of model folder.

    Attributes:
        name: what the kind is called.
        query: what has to stand before every query.
        document: what has to stand before every document.
        make: writes the folder, from a plain model's; None copies that.
        prompts: what its config holds under `prompts`; None for a folder without that file.
        default: its default prompt's name.
    """

    name: str
    query: str = ""
    document: str = ""
    make: Callable[[Path, Path], None] | None = None
    prompts: dict[str, str] | None = field(default_factory=dict)
    default: str | None = None

    def write(self, folder: Path, plain: Path) -> None:
        """Write the folder."""
        if self.make is None:
            shutil.copytree(plain, folder)
        else:
            self.make(folder, plain)
        if self.prompts is not None:
            path = folder / "config_sentence_transformers.json"
            config = json.loads(path.read_text()) | {"prompts": self.prompts, "default_prompt_name": self.default}
            path.write_text(json.dumps(config))


def _perturbed(plain: Path, seed: int) -> SentenceTransformer:
    model = SentenceTransformer(str(plain), device="cpu")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def _router(folder: Path, plain: Path) -> None:
    sides = [_perturbed(plain, seed) for seed in (1, 2)]
    router = Router.for_query_document(*([side[0], side[1]] for side in sides))  # type: ignore[arg-type]
    SentenceTransformer(modules=[router, Normalize()], device="cpu").save_pretrained(str(folder))


def _static_queries(folder: Path, plain: Path) -> None:
    """A Router as they are published: a table of token embeddings for queries, a transformer for documents."""
    table, whole = build_encoder(f"static:{plain}", device="cpu"), SentenceTransformer(str(plain), device="cpu")
    router = Router.for_query_document([table[0]], [whole[0], whole[1]])  # type: ignore[list-item]
    SentenceTransformer(modules=[router, Normalize()], device="cpu").save_pretrained(str(folder))


def _bare(folder: Path, plain: Path) -> None:
    folder.mkdir()
    for path in plain.iterdir():
        if path.suffix in (".safetensors", ".txt") or path.name in (
            "config.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ):
            shutil.copy(path, folder)


def _adapters(folder: Path, plain: Path) -> None:
    from peft import LoraConfig

    model = SentenceTransformer(str(plain), device="cpu")
    model.add_adapter(LoraConfig(r=4, target_modules=["query", "value"]))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(str(folder))


def _adapters_alone(folder: Path, plain: Path) -> None:
    """What a Hugging Face trainer leaves: adapters and tokenizer."""
    _adapters(folder.with_name("whole"), plain)
    folder.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder.with_name("whole") / name, folder)


def _with_modules(*modules: torch.nn.Module) -> Callable[[Path, Path], None]:
    def make(folder: Path, plain: Path) -> None:
        model = SentenceTransformer(str(plain), device="cpu")
        SentenceTransformer(modules=[model[0], model[1], *modules], device="cpu").save_pretrained(str(folder))

    return make


def _ata(folder: Path, plain: Path) -> None:
    build_encoder(str(plain), pooling="ata", device="cpu").save_pretrained(str(folder))


def _static(folder: Path, plain: Path) -> None:
    build_encoder(f"static:{plain}", device="cpu").save_pretrained(str(folder))


Q, D = "river engine ", "garden "
KINDS = (
    ModelKind("plain"),
    ModelKind("query and document", Q, D, prompts={"query": Q, "document": D}),
    ModelKind("query and passage", Q, D, prompts={"query": Q, "passage": D, "Clustering": "market "}),
    ModelKind("query and corpus", Q, D, prompts={"query": Q, "document": "", "corpus": D}),
    ModelKind("query alone", Q, prompts={"query": Q}),
    ModelKind("a default", D, D, prompts={"retrieval": D}, default="retrieval"),
    ModelKind("a default that is the queries'", Q, prompts={"query": Q}, default="query"),
    ModelKind("a default beside one for queries", Q, D, prompts={"query": Q, "text": D}, default="text"),
    ModelKind("empty prompts", prompts={"query": "", "document": ""}),
    ModelKind("routes", Q, D, _router, {"query": Q, "passage": D}),
    ModelKind("a route of a static table", make=_static_queries),
    ModelKind("bare checkpoint", make=_bare, prompts=None),
    ModelKind("adapters", Q, make=_adapters, prompts={"query": Q}),
    ModelKind("adapters alone", make=_adapters_alone, prompts=None),
    ModelKind("dense head", Q, D, _with_modules(Dense(32, 16), Normalize()), {"query": Q, "document": D}),
    ModelKind("not normalised", Q, D, _with_modules(), {"query": Q, "document": D}),
    ModelKind("ata", Q, D, _ata, {"query": Q, "document": D}),
    ModelKind("static", Q, D, _static, {"query": Q, "passage": D}),
)


def expected_vectors(kind: ModelKind, folder: Path, texts: Sequence[str]) -> Vectors:
    """What the model gives for the texts with the kind's prompts before them, by sentence-transformers alone."""
    model: Any = SentenceTransformer(str(folder), device="cpu", trust_remote_code=kind.name == "ata")
    both = (
        model.encode([prompt + text for text in texts], prompt="", task=role, normalize_embeddings=True)
        for prompt, role in ((kind.query, "query"), (kind.document, "document"))
    )
    queries, documents = both
    return queries, documents


def _as_config(folder: Path) -> Any:
    return parse_config({"training": {"base_model": str(folder), "max_seq_length": 32, "precision": "float32"}})


@contextmanager
def _evaluated(folder: Path) -> Iterator[Embed]:
    with open_encoder(ModelSpec("m", str(folder)), Encoding(device="cpu")) as (encoder, _):
        yield lambda texts: (encoder.encode_queries(texts), encoder.encode_documents(texts))


@contextmanager
def _mined(folder: Path) -> Iterator[Embed]:
    encoder = reference.deferred_encoder(str(folder))
    yield lambda texts: (encoder.encode_queries(texts), encoder.encode_documents(texts))


@contextmanager
def _audited(folder: Path) -> Iterator[Embed]:
    encoder = reference.reference_encoder(_as_config(folder))
    yield lambda texts: (encoder.encode_queries(texts), encoder.encode_documents(texts))


@contextmanager
def _as_base(folder: Path) -> Iterator[Embed]:
    encoder = SentenceTransformerEncoder(reference.base_model(_as_config(folder)))
    yield lambda texts: (encoder.encode_queries(texts), encoder.encode_documents(texts))


@contextmanager
def _trained(folder: Path) -> Iterator[Embed]:
    """What the loss is given, by the trainer's own collator."""
    model = build_candidate(_as_config(folder).training.resolve("tuned"), device="cpu").eval()
    collate = SentenceTransformerDataCollator(
        preprocess_fn=model.preprocess,
        prompts=column_prompts(model),  # type: ignore[arg-type]
        router_mapping=column_routes(model),  # type: ignore[arg-type]
    )

    def embed(texts: Sequence[str]) -> Vectors:
        batch = collate([{"query": text, "positive": text, "negative": text} for text in texts])
        sides = []
        for column in ("query", "positive", "negative"):
            features = {
                key.removeprefix(f"{column}_"): value for key, value in batch.items() if key.startswith(f"{column}_")
            }
            with torch.no_grad():
                vectors = model(batch_to_device(features, model.device))["sentence_embedding"].numpy()
            sides.append(vectors)
        np.testing.assert_array_equal(sides[1], sides[2])
        return sides[0], sides[1]

    yield embed


@contextmanager
def _saved(folder: Path) -> Iterator[Embed]:
    """A tuned candidate as others open it: by sentence-transformers' own two methods."""
    settings = _as_config(folder).training.resolve("tuned")
    target = folder.with_name(f"{folder.name}-saved")
    save_candidate(build_candidate(settings, device="cpu"), target, settings)
    model = SentenceTransformer(str(target), device="cpu", trust_remote_code=True)
    yield lambda texts: (model.encode_query(list(texts)), model.encode_document(list(texts)))


@contextmanager
def _exported(folder: Path) -> Iterator[Embed]:
    """What every export is held against."""
    model = load(str(folder), device="cpu")
    yield lambda texts: model_vectors(model, texts, 8)


@contextmanager
def _through_mteb(folder: Path) -> Iterator[Embed]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own renames, and its advice on prompts
        wrapped = SentenceTransformerEncoderWrapper(load(str(folder), device="cpu"))
    task = as_mteb_task(EvaluationSet("s", "test", "l", {"d": "a"}, {"q": "a"}, {"q": {"d": 1}}))
    about: Any = {"task_metadata": task.metadata, "hf_split": "test", "hf_subset": "default"}

    def embed(texts: Sequence[str]) -> Vectors:
        loader: Any = DataLoader(Dataset.from_dict({"text": list(texts)}), batch_size=8)  # type: ignore[arg-type]
        queries, documents = (
            np.asarray(wrapped.encode(loader, prompt_type=side, **about))
            for side in (PromptType.query, PromptType.document)
        )
        return queries, documents

    yield embed


@contextmanager
def _served(folder: Path) -> Iterator[Embed]:
    """A server that puts nothing before texts, told the prompts as `--query-prompt` tells them; it has no routes."""
    model = load(str(folder), device="cpu")
    with ExitStack() as stack:
        server = stack.enter_context(closing(EmbeddingServer(model)))
        encoder = ServedEncoder(server.model, query_prompt=query_prompt(model), document_prompt=document_prompt(model))
        yield lambda texts: (encoder.encode_queries(texts), encoder.encode_documents(texts))


PARTS: dict[str, Callable[[Path], Any]] = {
    "evaluate": _evaluated,
    "mine": _mined,
    "audit": _audited,
    "base": _as_base,
    "train": _trained,
    "saved": _saved,
    "export": _exported,
    "mteb": _through_mteb,
    "served": _served,
}

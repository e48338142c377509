"""The base model as the run uses it: to measure levels, and to compare with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sentence_transformers import SentenceTransformer

from multigrain.config import Config, PromptsConfig, fingerprint
from multigrain.encoders.cache import CachedEncoder
from multigrain.encoders.encoder import Encoder, model_fingerprint
from multigrain.mining.search import Floats
from multigrain.model.encoder import build_encoder, encode
from multigrain.model.precision import mixed_precision, supports_native_bf16
from multigrain.storage.packages import encoder_name

__all__ = ["ReferenceModel", "base_model", "encoding_precision", "named_model", "reference_model"]


@dataclass(frozen=True)
class ReferenceModel:
    """A model that measures similarity, with its query and document prompts.

    Attributes:
        model: the encoder.
        name: what reports call it.
        batch_size: texts encoded at once.
        bf16: whether it computes in bf16.
        cache: a folder that keeps vectors for other runs with the same model; None keeps none.
    """

    model: SentenceTransformer
    name: str
    batch_size: int
    bf16: bool
    cache: Path | None = None

    def embed_queries(self, texts: Sequence[str]) -> Floats:
        """(n, d) L2-normalised query vectors."""
        with self._encoder() as encoder:
            return encoder.encode_queries(list(texts))

    def embed_passages(self, texts: Sequence[str]) -> Floats:
        """(n, d) L2-normalised document vectors."""
        with self._encoder() as encoder:
            return encoder.encode_documents(list(texts))

    def encode_queries(self, texts: list[str]) -> Floats:
        """The same as `embed_queries`, never from the cache."""
        return self._embed(texts, "query")

    def encode_documents(self, texts: list[str]) -> Floats:
        """The same as `embed_passages`, never from the cache."""
        return self._embed(texts, "document")

    @contextmanager
    def _encoder(self) -> Iterator[Encoder]:
        if self.cache is None:
            yield self
            return
        identity = fingerprint("reference", model_fingerprint(self.model), self.bf16)
        with closing(CachedEncoder(self, identity, self.cache)) as cached:
            yield cached

    def _embed(self, texts: list[str], kind: str) -> Floats:
        prompt = kind if self.model.prompts.get(kind) else None
        return encode(self.model, texts, batch_size=self.batch_size, bf16=self.bf16, prompt_name=prompt)


def reference_model(config: Config, *, cache: Path | None = None) -> ReferenceModel:
    """The model that the audit measures with.

    Args:
        config: names it.
        cache: a folder that keeps its vectors; None keeps none.

    Raises:
        ModelError: it cannot be loaded.
    """
    named = config.audit.reference_model
    own = named == "auto"
    model = base_model(config) if own else build_encoder(named, trust_remote_code=config.training.trust_remote_code)
    return ReferenceModel(
        model=model,
        name=encoder_name(config.training.base_model if own else named),
        batch_size=config.evaluation.batch_size,
        bf16=_use_bf16(config, model),
        cache=cache,
    )


@cache
def named_model(reference: str, batch_size: int, trust_remote_code: bool, prompts: PromptsConfig) -> ReferenceModel:
    """A model by its reference alone, loaded once in a process.

    Raises:
        ModelError: it cannot be loaded.
    """
    model = build_encoder(reference, trust_remote_code=trust_remote_code, prompts=prompts)
    return ReferenceModel(model, encoder_name(reference), batch_size, supports_native_bf16(model.device))


def base_model(config: Config) -> SentenceTransformer:
    """The base model with its own pooling and attention; it reads the same prompts, and as much, as the tuned ones.

    Where all weights are tuned, tuned models are in float32, and so is what they are compared with.

    Raises:
        ModelError: it cannot be loaded.
    """
    training = config.training
    model = build_encoder(
        training.base_model,
        max_seq_length=training.max_seq_length,
        trust_remote_code=training.trust_remote_code,
        prompts=training.prompts,
        append_eos=training.append_eos,
    )
    whole = any(training.resolve(name).lora is None for name in training.candidates)
    return model.float() if whole else model


@contextmanager
def encoding_precision(config: Config, model: SentenceTransformer) -> Iterator[None]:
    """Encode in the precision that the model is trained in; every model of a run in the same."""
    with mixed_precision(model.device, bf16=_use_bf16(config, model)):
        yield


def _use_bf16(config: Config, model: SentenceTransformer) -> bool:
    if config.training.precision == "auto":
        return supports_native_bf16(model.device)
    return config.training.precision == "bf16"

"""The base model as the run uses it: to measure levels, and to compare with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache, cached_property, lru_cache
from pathlib import Path

from sentence_transformers import SentenceTransformer

from multigrain.config import Config, PromptsConfig, fingerprint
from multigrain.encoders.cache import CachedEncoder
from multigrain.encoders.distributed import DeferredEncoder, DistributedEncoder
from multigrain.encoders.encoder import SentenceTransformerEncoder, model_fingerprint
from multigrain.encoders.protocol import Encoder
from multigrain.engine.build import build_engine
from multigrain.model.encoder import build_encoder
from multigrain.model.loading import is_raw
from multigrain.model.precision import mixed_precision, supports_native_bf16
from multigrain.storage.packages import encoder_name


def reference_name(config: Config) -> str:
    """What reports call the model that the audit measures with."""
    named = config.audit.reference_model
    return encoder_name(config.training.base_model if named == "auto" else named)


class ReferenceEncoder(SentenceTransformerEncoder):
    """A model that measures: rows and corpora that it measured in another precision are measured again."""

    @cached_property
    def fingerprint(self) -> str:
        """The model's, with its precision and, where vectors are not of length 1, that."""
        scaled = () if self.cosine else ("as long as they are",)
        return fingerprint("reference", model_fingerprint(self.model), self.bf16, *scaled)


def reference_encoder(config: Config) -> ReferenceEncoder:
    """The model that the audit measures with; it compares by cosine.

    Raises:
        ModelError: it cannot be loaded.
    """
    named = config.audit.reference_model
    trusted, tokens = config.training.trust_remote_code, config.training.max_seq_length
    own = named == "auto"
    model = base_model(config, tokens=tokens) if own else build_encoder(named, trust_remote_code=trusted)
    return ReferenceEncoder(
        model,
        batch_size=config.evaluation.batch_size,
        bf16=_use_bf16(config, model),
        cosine=True,
        guessed=is_raw(config.training.base_model if own else named),
    )


def base_encoder(config: Config, model: SentenceTransformer) -> ReferenceEncoder:
    """The base model as tuned ones are compared with it, by the similarity that is its own.

    Where that is cosine and the audit measures with the base model, it is the audit's encoder, by fingerprint too: its
    vectors may be shared.

    Args:
        config: the run's.
        model: `base_model`.

    Raises:
        EvaluationError: the model compares by a distance.
    """
    guessed, bf16 = is_raw(config.training.base_model), _use_bf16(config, model)
    return ReferenceEncoder(model, batch_size=config.evaluation.batch_size, bf16=bf16, guessed=guessed)


@contextmanager
def open_reference(config: Config, *, cache: Path | None = None) -> Iterator[Encoder]:
    """The model that the audit measures with, on the workers of the config's engine; here where that is local.

    Args:
        config: names both.
        cache: a folder that keeps vectors for other runs; used where the model is here. None keeps none.

    Raises:
        ModelError: it cannot be loaded.
    """
    if config.engine.kind != "local":
        with build_engine(config.engine) as engine:
            yield DistributedEncoder(DeferredEncoder(_reference_of, (config.model_dump_json(),)), engine)
        return
    encoder = reference_encoder(config)
    if cache is None:
        yield encoder
        return
    with closing(CachedEncoder(encoder, encoder.fingerprint, cache)) as cached:
        yield cached


@lru_cache(maxsize=1)
def _reference_of(config: str) -> ReferenceEncoder:
    return reference_encoder(Config.model_validate_json(config))


def deferred_encoder(
    reference: str,
    *,
    batch_size: int = 64,
    trust_remote_code: bool = False,
    query_prompt: str | None = None,
    document_prompt: str | None = None,
) -> DeferredEncoder:
    """A model by its reference alone, loaded once in each process that uses it; it compares by cosine.

    Args:
        reference: a folder, a hub id, `package:NAME` or `auto`.
        batch_size: texts encoded at once.
        trust_remote_code: run code that comes with it.
        query_prompt: put before every query; None for the model's own prompt, if it has one.
        document_prompt: put before every document; None as above.
    """
    prompts = PromptsConfig(query=query_prompt, document=document_prompt)
    return DeferredEncoder(_encoder_of, (reference, batch_size, trust_remote_code, prompts))


@cache
def _encoder_of(
    reference: str, batch_size: int, trust_remote_code: bool, prompts: PromptsConfig
) -> SentenceTransformerEncoder:
    model = build_encoder(reference, trust_remote_code=trust_remote_code, prompts=prompts)
    bf16 = supports_native_bf16(model.device)
    return SentenceTransformerEncoder(model, batch_size=batch_size, bf16=bf16, cosine=True, guessed=is_raw(reference))


def base_model(config: Config, *, tokens: int | None = None) -> SentenceTransformer:
    """The base model with its own pooling and attention; it reads the same prompts, and as much, as the tuned ones.

    Where all weights are tuned, tuned models are in float32, and so is what they are compared with; so are documents
    that stay the base's.

    Args:
        config: the run's.
        tokens: the most that it reads of a text; None for as much as it will in use.

    Raises:
        ModelError: it cannot be loaded.
    """
    training = config.training
    model = build_encoder(
        training.base_model,
        max_seq_length=training.length_in_use,
        trust_remote_code=training.trust_remote_code,
        prompts=training.prompts,
        append_eos=training.append_eos,
    )
    own = model.max_seq_length
    if tokens is not None and isinstance(own, int) and tokens < own:  # static embeddings read texts of any length
        model.max_seq_length = tokens
    candidates = map(training.resolve, training.embedders or training.candidates)
    whole = any(candidate.lora is None or candidate.side == "query" for candidate in candidates)
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

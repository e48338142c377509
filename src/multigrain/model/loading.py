"""Load sentence-transformers models, turning what goes wrong into one line."""

from __future__ import annotations

import json
import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from sentence_transformers.util import is_sentence_transformer_model
from torch import nn
from transformers import AutoConfig

from multigrain.config import AttentionImplementation, AttentionName
from multigrain.config.paths import ADAPTER_FILE, SERVED_PREFIX, STATIC_PREFIX
from multigrain.display.install import install_line
from multigrain.display.text import first_line
from multigrain.errors import MissingExtraError, ModelError
from multigrain.model.allocator import keep_freed_memory
from multigrain.model.attention.direction import is_decoder
from multigrain.model.attention.implementation import check_implementation, require_implementation
from multigrain.model.precision import supports_native_bf16
from multigrain.model.prompts import settle_prompts
from multigrain.model.replacing import pooling_of
from multigrain.model.routes import require_routes
from multigrain.model.scoring_head import require_embedder
from multigrain.model.weights import require_weights
from multigrain.storage.packages import encoder_name, resolve_encoder

_LOG = logging.getLogger(__name__)

_ADAPTERS = "adapter_config.json"
_KIND = "SentenceTransformer"  # as sentence-transformers names it in its config, beside CrossEncoder and SparseEncoder
_CONFIG_FILES = ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json")


def load_any(
    reference: str,
    *,
    device: str | None = None,
    trust_remote_code: bool = False,
    quantization: Any = None,
    computed_on: str | None = None,
    attn_implementation: AttentionImplementation | None = None,
) -> SentenceTransformer:
    """Load an encoder: a folder (this package's own included), a hub id, `package:NAME`, `auto` or `static:` before.

    Weights in half precision become float32 where the device does not compute bf16 natively.

    Args:
        reference: what to load.
        device: where to put it; None lets sentence-transformers choose.
        trust_remote_code: run code that comes with the model.
        quantization: transformers' quantization config; None for none.
        computed_on: the device that it will be moved to; None for `device`.
        attn_implementation: what computes attention; None for transformers' choice.

    Raises:
        ModelError: no such folder, nothing usable in it, the hub does not deliver, the model needs its own code, or
            attention cannot be computed as asked.
        MissingExtraError: `package:NAME`, or what computes attention, is not installed.
    """
    check_implementation(attn_implementation, device=computed_on or device)
    keep_freed_memory()
    model = _load(reference, device, trust_remote_code, quantization, attn_implementation)
    settle_prompts(model)
    try:
        require_routes(model)
    except ModelError as error:
        raise ModelError(f"{reference}: {error}") from None
    half = model.dtype in (torch.float16, torch.bfloat16)
    keeps_half = quantization is not None or supports_native_bf16(computed_on or model.device)
    return model.float() if half and not keeps_half else model


def _load(
    reference: str,
    device: str | None,
    trust_remote_code: bool,
    quantization: Any,
    attn_implementation: AttentionImplementation | None,
) -> SentenceTransformer:
    if reference.startswith(STATIC_PREFIX):
        whole = load_any(reference.removeprefix(STATIC_PREFIX), device="cpu", trust_remote_code=trust_remote_code)
        table = token_embeddings(whole, device=device)
        require_implementation(table, attn_implementation)
        return table
    source = locate(reference)
    folder = Path(source)
    require_embedder(source)
    _require_peft(reference, folder)
    # sentence-transformers asks for the flag for any class from outside its package. For this package's own classes
    # the answer is yes, as long as nothing in the folder brings code of its own.
    trusted = trust_remote_code or (folder.is_dir() and _names_only_own_code(folder))
    options = {"quantization_config": quantization, "attn_implementation": attn_implementation}
    arguments = {name: value for name, value in options.items() if value is not None}
    try:
        if is_model2vec(folder):
            table = read_model2vec(folder, device=device)
            require_implementation(table, attn_implementation)
            return table
        model = SentenceTransformer(source, device=device, trust_remote_code=trusted, model_kwargs=arguments)
        require_weights(model, reference, folder)
        _fit_length(model, reference)
        if is_raw(reference):
            read_plain_text(model)
        require_implementation(model, attn_implementation)
    except (ModelError, MissingExtraError):
        raise
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, AttributeError) as error:
        raise unloadable(reference, error, adapted=adapted_base(folder)) from error
    return model


def _fit_length(model: SentenceTransformer, reference: str) -> None:
    """Have a model read no more tokens than it has positions for, whatever its folder says: others end in an error."""
    for part in (part for part in model.modules() if isinstance(part, Transformer)):
        tables = [
            (inner.num_embeddings, getattr(outer, "padding_idx", None))
            for outer in part.model.modules()
            for name, inner in outer.named_children()
            if name == "position_embeddings" and isinstance(inner, nn.Embedding)
        ]
        # RoBERTa and its kin begin to count behind the padding's index.
        positions = min((rows if first is None else rows - first - 1 for rows, first in tables), default=None)
        if positions is not None and (part.max_seq_length or 0) > positions:
            _LOG.warning(
                "%s: reads %d tokens of a text; max_seq_length is %d in its folder, and it has no more positions",
                reference,
                positions,
                part.max_seq_length,
            )
            part.max_seq_length = positions


def read_plain_text(model: SentenceTransformer | CrossEncoder) -> None:
    """Have a language model's checkpoint read texts as they are, although its tokenizer has a chat template.

    sentence-transformers would wrap each text into a conversation, with the template's own system message where there
    is no prompt. Embedding models made of language models (E5-Mistral, LLM2Vec, Qwen3-Embedding) read plain text, and
    so do the servers that they run on; and only in plain text is it known which tokens are the prompt's.
    """
    first = model[0]
    if isinstance(first, Transformer) and {"message", "text"} <= first.modality_config.keys():
        first.modality_config = {key: settings for key, settings in first.modality_config.items() if key != "message"}
        first.input_formatter.supported_modalities = list(first.modality_config)


def adapted_base(folder: Path) -> str | None:
    """The model that a folder's adapters were tuned on, as peft noted it; None where it holds no adapters alone.

    Raises:
        ModelError: the note cannot be read.
    """
    if (folder / "config.json").is_file():
        return None
    noted = _read_json(folder / _ADAPTERS, {}).get("base_model_name_or_path")
    return noted if isinstance(noted, str) else None


def _require_peft(reference: str, folder: Path) -> None:
    if adapted_base(folder) is not None and find_spec("peft") is None:
        raise MissingExtraError("peft", f"{reference}, which holds adapters,", install_line("lora"))


def unloadable(reference: str, error: Exception, *, adapted: str | None = None) -> ModelError:
    """The error for a model that could not be loaded, in words that say which it was and what can be done.

    Args:
        reference: what was to be loaded.
        error: what the libraries said.
        adapted: the model that its adapters were tuned on, which is loaded with them.
    """
    if "trust_remote_code" in str(error):
        return ModelError(
            f"{reference}: needs code that comes with the model; set trust_remote_code if you trust its author"
        )
    name = encoder_name(reference)
    shown = reference if name == reference else f"{reference} ({name})"
    shown += "" if adapted is None else f" (adapters of {adapted}, which must be there too)"
    reason = first_line(error)
    if adapted is not None and "Unrecognized processing class" in reason:
        reason = "it holds no tokenizer: copy the files of its base's (tokenizer.json, tokenizer_config.json) into it"
    if "connect to" in reason or "offline" in reason.lower():
        reason = (
            "it is no folder, not in the hub's cache, and the hub cannot be reached: name a folder, or put the model "
            "into the cache where there is a network; `multigrain doctor` looks at the hub"
        )
    return ModelError(f"{shown}: cannot be loaded as an encoder: {reason}")


def locate(reference: str) -> str:
    """The folder or hub id that a reference stands for.

    Raises:
        ModelError: no such folder, or no model in it.
        MissingExtraError: `package:NAME` is not installed.
    """
    source = resolve_encoder(reference)
    folder = Path(source).expanduser()
    if reference.startswith(SERVED_PREFIX) or (folder / ADAPTER_FILE).is_file():
        what = "a query adapter for a model" if folder.is_dir() else "a model"
        raise ModelError(f"{reference}: {what} behind an endpoint, and what is asked for needs a model that runs here")
    if folder.is_dir():
        if not any((folder / name).is_file() for name in ("modules.json", "config.json", _ADAPTERS)):
            raise ModelError(
                f"{reference}: not a model folder: it holds neither modules.json nor config.json nor {_ADAPTERS}"
            )
        return str(folder)
    if folder.exists() or source.startswith(("/", "./", "../", "~")) or source.count("/") > 1:
        raise ModelError(
            f"{reference}: no such model folder; give a folder, a hub id such as OWNER/NAME, or package:NAME"
        )
    return source


def is_raw(reference: str) -> bool:
    """Whether a reference says nothing of pooling: a transformers checkpoint, or adapters without modules.

    So is a sparse encoder: sentence-transformers leaves its modules out and takes its transformer alone.
    """
    if reference.startswith((STATIC_PREFIX, SERVED_PREFIX)):
        return False
    source = resolve_encoder(reference)
    folder = Path(source).expanduser()
    if (folder / ADAPTER_FILE).is_file():
        return False
    if folder.is_dir():
        kind = _read_json(folder / "config_sentence_transformers.json", {}).get("model_type", _KIND)
        return kind != _KIND or (not (folder / "modules.json").is_file() and not is_model2vec(folder))
    return not is_sentence_transformer_model(source)


def is_asymmetric(reference: str) -> bool:
    """Whether a model, in a folder or the hub's cache, embeds by a Router; no weights are read."""
    if reference.startswith(STATIC_PREFIX):
        return False
    source = locate(reference)
    cached = source if Path(source).is_dir() else try_to_load_from_cache(source, "modules.json")
    if not isinstance(cached, str):
        return False
    path = Path(cached) / "modules.json" if Path(cached).is_dir() else Path(cached)
    modules = _read_json(path, [])
    return any(str(module.get("type", "")).endswith((".Router", ".Asym")) for module in modules)


def describe_kind(reference: str) -> str:
    """What a reader should know of how a model's folder is read, in words; empty for an ordinary one.

    Raises:
        ModelError: there is no model.
    """
    if reference.startswith(STATIC_PREFIX):
        return ""
    if is_asymmetric(reference):
        return "a Router: queries and documents take modules of their own"
    base = adapted_base(Path(locate(reference)))
    adapters = "" if base is None else f"adapters of {base}"
    guess = "it names no pooling: last token for causal decoders, mean for others" if is_raw(reference) else ""
    return "; ".join(part for part in (adapters, guess) if part)


def _names_only_own_code(folder: Path) -> bool:
    """Whether a folder's modules are sentence-transformers' or of poolings in the table, and its configs name no code.

    Such classes are imported from the package that offers the pooling, never from the model's folder.
    """
    types = [str(module.get("type", "")) for module in _read_json(folder / "modules.json", [])]
    for router in folder.rglob("router_config.json"):
        types += map(str, _read_json(router, {}).get("types", {}).values())
    foreign = [name for name in types if not name.startswith("sentence_transformers.")]
    configs = (_read_json(path, {}) for name in _CONFIG_FILES for path in folder.rglob(name))
    names_code = any("auto_map" in config for config in configs)
    return bool(foreign) and not names_code and all(pooling_of(name) is not None for name in foreign)


def _read_json(path: Path, default: Any) -> Any:
    if not path.is_file():
        return default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read as JSON ({first_line(error)})") from None


def token_embeddings(model: SentenceTransformer, *, device: str | None = None) -> SentenceTransformer:
    """A static model over an encoder's tokenizer, which starts from the encoder's input embeddings.

    Raises:
        ModelError: the model has no transformer with a fast tokenizer.
    """
    transformer = model[0]
    if not isinstance(transformer, Transformer):
        raise ModelError(
            f"static: needs a transformer to take token embeddings from, got {type(transformer).__name__}"
        )
    embeddings = transformer.model.get_input_embeddings()
    tokenizer = getattr(transformer.tokenizer, "backend_tokenizer", None)
    if not isinstance(embeddings, nn.Embedding) or tokenizer is None:
        raise ModelError(f"static: {type(transformer.model).__name__} has no token embeddings with a fast tokenizer")
    # A copy: the encoder's tokenizer keeps its padding and truncation.
    copy = type(tokenizer).from_str(tokenizer.to_str())
    copy.no_truncation()
    weights = embeddings.weight.detach().float().clone()
    return SentenceTransformer(modules=[StaticEmbedding(copy, embedding_weights=weights)], device=device or "cpu")


def is_model2vec(folder: Path) -> bool:
    """Whether a folder is a model2vec model without sentence-transformers' modules."""
    if (folder / "modules.json").is_file():
        return False
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(settings, dict) and settings.get("model_type") == "model2vec"


def read_model2vec(folder: Path, *, device: str | None = None) -> SentenceTransformer:
    """Load a model2vec folder.

    Raises:
        MissingExtraError: model2vec is not installed.
    """
    if find_spec("model2vec") is None:
        raise MissingExtraError("model2vec", f"{folder}, a model2vec model,", "pip install model2vec")
    return SentenceTransformer(modules=[StaticEmbedding.from_model2vec(str(folder))], device=device or "cpu")


def check_reference(
    reference: str,
    *,
    max_seq_length: int | None = None,
    attention: AttentionName = "keep",
    trust_remote_code: bool = False,
) -> None:
    """Read a model's config, from a folder or the hub, and hold it against what is asked for.

    Args:
        reference: what `build_encoder` takes.
        max_seq_length: tokens that it shall read; None for its own.
        attention: which way it shall attend.
        trust_remote_code: run code that comes with the model.

    Raises:
        ModelError: it is not there, or cannot be what is asked for.
        MissingExtraError: `package:NAME` is not installed.
    """
    source = locate(reference.removeprefix(STATIC_PREFIX))
    require_embedder(source)
    _require_peft(reference, Path(source))
    if (base := adapted_base(Path(source))) is not None:
        try:
            check_reference(
                base, max_seq_length=max_seq_length, attention=attention, trust_remote_code=trust_remote_code
            )
        except ModelError as error:
            raise ModelError(f"{reference}: its adapters were tuned on {error}") from None
        return
    folder = transformer_folder(Path(source))
    if is_model2vec(Path(source)) or folder is None:
        return
    source = str(folder) if folder.is_dir() else source
    try:
        config: Any = AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise unloadable(reference, error) from None
    if reference.startswith(STATIC_PREFIX):
        return
    if max_seq_length is not None:
        require_positions(config, max_seq_length, reference)
    if attention == "causal" and not is_decoder(config):
        raise ModelError(f"{reference}: attention: causal needs a decoder; {config.model_type} is none")


def require_positions(config: Any, limit: int, reference: str) -> None:
    """See that a transformer, by its config, has positions for as many tokens as it shall read.

    Raises:
        ModelError: it has fewer.
    """
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and 0 < positions < limit:
        raise ModelError(f"{reference}: max_seq_length {limit} is more than the {positions} tokens the model can read")


def transformer_folder(folder: Path) -> Path | None:
    """The folder of a folder's transformer; None where it has none. A hub id stays what it is."""
    modules = folder / "modules.json"
    if not modules.is_file():
        return folder
    try:
        first = json.loads(modules.read_text(encoding="utf-8"))[0]
        inner = folder / str(first["path"])
    except (OSError, ValueError, LookupError, TypeError):
        raise ModelError(f"{modules}: cannot be read as a list of modules") from None
    has_own_config = (inner / "config.json").is_file() and not (inner / _ADAPTERS).is_file()
    return inner if has_own_config else None

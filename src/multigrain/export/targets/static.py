"""A static model distilled by model2vec: a vector for each token and no transformer, for laptops."""

from __future__ import annotations

import copy
import io
import logging
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from sentence_transformers import SentenceTransformer

from multigrain.display.install import install_line
from multigrain.encoders.encoder import SentenceTransformerEncoder
from multigrain.errors import ExportError, MissingExtraError
from multigrain.export.cost import measure_costs
from multigrain.export.graph import require_text_encoder
from multigrain.export.job import Exported, ExportJob
from multigrain.export.llama_cpp.check import own_texts
from multigrain.export.parity import PARITY_TEXTS
from multigrain.export.targets.onnx import in_float32
from multigrain.model.replacing import pooling_name

DIMENSION: Final = 256
"""Dimensions that the principal components of token vectors are cut to; model2vec's own default."""

_POOLINGS: Final = {"mean": "mean", "cls": "first", "last": "last"}
_TIMED_TEXTS: Final = 256
_TOLERANCE: Final = 1e-2
# Words of the timed texts where no set is given.
_REPEATS: Final = 26


def export(job: ExportJob, folder: Path) -> Exported:
    """Write a folder that sentence-transformers and model2vec open, and measure what it loses and how fast it is.

    Raises:
        ExportError: the model reads no tokens of a transformer, its tokenizer is not a fast one, or the two libraries
            give different vectors.
        MissingExtraError: the extra `static` is not installed.
    """
    for package in ("model2vec", "skeletoken"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "a static model", install_line("static"))
    model = in_float32(job.model)
    with job.progress.task("Embedding every token of the vocabulary", None):
        distilled = _distil(model)
    distilled.save_pretrained(folder)
    static = SentenceTransformer(str(folder), device="cpu")
    _check(folder, static)
    costs = measure_costs(
        job, SentenceTransformerEncoder(model), SentenceTransformerEncoder(static), "the static model"
    )
    texts = (own_texts(job.sets) or [text for text in PARITY_TEXTS for _ in range(_REPEATS)])[:_TIMED_TEXTS]
    speeds = {name: _texts_a_second(one, texts) for name, one in (("model", model), ("static", static))}
    facts: dict[str, Any] = {
        "costs": [asdict(cost) for cost in costs],
        "dimension": static.get_embedding_dimension(),
        "texts_a_second": speeds,
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "model_bytes": sum(weight.numel() * weight.element_size() for weight in model.parameters()),
    }
    lines = [f"static: {cost}" for cost in costs] or ["its loss was not measured; name a labelled set with --set"]
    times = speeds["static"] / speeds["model"]
    lines += [
        f"{facts['bytes'] / 1e6:.0f} MB instead of {facts['model_bytes'] / 1e6:.0f}, {facts['dimension']} dimensions",
        f"{speeds['static']:,.0f} texts a second on this CPU, {times:,.0f} times as many as the model",
        "it puts no prompt before texts; index again with it",
        f'opens with SentenceTransformer("{job.destination}") and StaticModel.from_pretrained("{job.destination}")',
    ]
    return Exported(facts=facts, lines=tuple(lines))


def _distil(model: SentenceTransformer) -> Any:
    """model2vec's static model: each token embedded alone, principal components, weights by Zipf's law."""
    from model2vec.distill.distillation import distill_from_model

    transformer = cast("Any", copy.deepcopy(require_text_encoder(model).model))
    # Where this is no folder, the library asks the hub for the model's language.
    transformer.name_or_path = "."
    if not hasattr(model.tokenizer, "backend_tokenizer"):
        raise ExportError(
            f"static: its {type(model.tokenizer).__name__} has no tokenizer.json; it cannot be distilled"
        )
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stderr(io.StringIO()):  # its progress bar
            return distill_from_model(
                transformer,
                cast("Any", model.tokenizer),
                device="cpu",
                pca_dims=min(DIMENSION, transformer.config.hidden_size),
                quantize_to="float32",
                pooling=_POOLINGS.get(pooling_name(model), "mean"),
            )
    except (ValueError, KeyError, TypeError) as error:  # tokenizers that the library does not take apart
        raise ExportError(f"static: model2vec cannot distil it ({' '.join(str(error).split())[:200]})") from error
    finally:
        logging.disable(before)


def _check(folder: Path, static: SentenceTransformer) -> None:
    """Both libraries that open the folder give the same vectors.

    Unknown tokens, which model2vec leaves out, count for little; long texts it cuts by their letters.
    """
    from model2vec import StaticModel

    texts = list(PARITY_TEXTS[:-1])
    found = StaticModel.from_pretrained(folder).encode(texts)
    difference = float(np.abs(found - static.encode(texts)).max())
    if not difference <= _TOLERANCE:
        raise ExportError(f"static: model2vec and sentence-transformers are {difference:.2g} apart on it")


def _texts_a_second(model: SentenceTransformer, texts: list[str]) -> float:
    encode = cast("Callable[..., Any]", model.encode)
    encode(texts[:8], show_progress_bar=False)
    started = time.perf_counter()
    encode(texts, show_progress_bar=False)
    return len(texts) / (time.perf_counter() - started)

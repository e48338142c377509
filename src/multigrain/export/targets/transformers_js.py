"""A folder that transformers.js opens, in Node and in pages; an int8 graph with it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from sentence_transformers import SentenceTransformer

from multigrain.errors import ExportError
from multigrain.export import javascript
from multigrain.export.graph import token_limit
from multigrain.export.javascript.node import PACKAGE, NodeEmbedder, transformers_js
from multigrain.export.job import Exported, ExportJob
from multigrain.export.llama_cpp.vocabulary import added_ids
from multigrain.export.parity import check_parity
from multigrain.export.targets import onnx

GRAPH: Final = "onnx/model.onnx"
QUANTISED: Final = "onnx/model_quantized.onnx"
READER: Final = "embedder.mjs"

_SETTINGS: Final = "export const SETTINGS = {};"
_KEPT: Final = ("query_prompt", "document_prompt", "default_prompt", "pools_prompt", "special_ids", "max_tokens")
"""What the reader needs of export.json."""
_PLACES: Final = {onnx.ONNX_FILE: GRAPH, onnx.INT8_FILE: QUANTISED}


def export(job: ExportJob, folder: Path) -> Exported:
    """Write onnx/model.onnx, onnx/model_quantized.onnx where it was asked for, tokenizer, config and embedder.mjs.

    Raises:
        ExportError: the architecture cannot be traced, or transformers.js, where Node finds it, gives other vectors.
        MissingExtraError: the extra `onnx` is not installed.
    """
    if getattr(job.model.tokenizer, "truncation_side", "right") != "right":
        raise ExportError(
            "its tokenizer cuts texts at their beginning, and transformers.js at their end; use --to onnx"
        )
    done = onnx.export(job, folder)
    if list(folder.glob(f"{onnx.ONNX_FILE}?*")):
        raise ExportError("its weights are larger than one ONNX file holds, which no page loads; use --to onnx")
    _arrange(job.model, folder)
    facts = {**done.facts, "files": [_PLACES[name] for name in done.facts["files"]]}
    lines = [line for line in done.lines if "embedder.py" not in line]
    for name, place in _PLACES.items():
        lines = [line.replace(f"{name}:", f"{place}:") for line in lines]
    home = Path.cwd()
    version = transformers_js(home)
    facts["transformers_js"] = version
    if version is None:
        lines.append(
            f"not run in transformers.js: Node does not find {PACKAGE} here; `npm install {PACKAGE}` and export again "
            "to have it compared"
        )
    else:
        job.progress.say(f"export: comparing vectors in transformers.js {version}")
        facts["max_difference"] = check_parity(
            onnx.in_float32(job.model), NodeEmbedder(folder, home), what=f"{job.source} in transformers.js"
        )
        lines.append(f"transformers.js {version} in Node: the model's vectors within {facts['max_difference']:.1e}")
    onnx.note_facts(folder, facts)
    lines.append(f"use it from {READER} in the folder")
    return replace(done, facts=facts, lines=tuple(lines))


def _arrange(model: SentenceTransformer, folder: Path) -> None:
    """Bring the files of an ONNX export to where transformers.js reads them."""
    (folder / "onnx").mkdir()
    for name, place in _PLACES.items():
        if (folder / name).exists():
            (folder / name).rename(folder / place)
    (folder / "embedder.py").unlink()
    transformer: Any = model[0]
    transformer.model.config.save_pretrained(str(folder))
    model.tokenizer.save_pretrained(str(folder))
    # The length that texts are cut at is read here, and nowhere else.
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    limit = token_limit(model)
    settings.pop("model_max_length", None)
    path.write_text(
        json.dumps(settings | ({} if limit is None else {"model_max_length": limit}), indent=2, ensure_ascii=False),
        encoding="utf-8",
    )
    reader = Path(javascript.__path__[0], READER).read_text(encoding="utf-8")
    written = json.dumps(_reader_settings(model, folder), indent=2)
    (folder / READER).write_text(reader.replace(_SETTINGS, f"export const SETTINGS = {written};"), encoding="utf-8")


def _reader_settings(model: SentenceTransformer, folder: Path) -> dict[str, Any]:
    """What embedder.mjs has to know."""
    noted = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    tokenizer: Any = model.tokenizer
    padding = {"pad_id": tokenizer.pad_token_id, "padding_side": tokenizer.padding_side}
    return {**{key: noted[key] for key in _KEPT}, **padding, "end_tokens": len(added_ids(tokenizer)[1])}

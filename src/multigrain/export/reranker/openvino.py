"""The same graph of a reranker in OpenVINO's own format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from multigrain.export.job import Exported, RerankerJob
from multigrain.export.reranker.onnx import READER_FILE, backend_of, write_onnx_folder
from multigrain.export.reranker.parity import check_pair_parity
from multigrain.export.reranker.reader import Reranker
from multigrain.export.targets.onnx import ONNX_FILE, note_facts
from multigrain.export.targets.openvino import OPENVINO_FILE, open_graph, require_openvino, write_openvino


def export(job: RerankerJob, folder: Path) -> Exported:
    """Write openvino_model.xml and .bin beside the tokenizer and the settings.

    Raises:
        ExportError: as `multigrain.export.reranker.onnx.export`.
        MissingExtraError: openvino, or the extra `onnx`, is not installed.
    """
    require_openvino()
    model, _ = write_onnx_folder(job, folder)
    write_openvino(folder)
    difference = check_pair_parity(model, open_folder(folder), what=f"{job.source} as OpenVINO")
    for path in folder.glob(f"{ONNX_FILE}*"):
        path.unlink()
    (folder / READER_FILE).unlink()  # it reads ONNX
    backend = backend_of("openvino")
    facts: dict[str, Any] = {"max_difference": difference, "files": [OPENVINO_FILE, "openvino_model.bin"]}
    facts |= backend.facts
    note_facts(folder, facts)
    return Exported(
        facts=facts,
        lines=(
            f"{OPENVINO_FILE}: the model's scores within {difference:.1e} (log-odds), computed in float32",
            "inputs are those of export.json, by tokenizer.json; the output is logits",
            backend.line,
        ),
    )


def open_folder(folder: Path, *, threads: int | None = None) -> Reranker:
    """A folder that `export` wrote, computed by OpenVINO.

    Args:
        folder: it and the graph in it.
        threads: that one forward pass may use; None for all.
    """
    return Reranker(folder, session=open_graph(folder, threads=threads))

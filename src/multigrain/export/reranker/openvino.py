"""The same graph of a reranker in OpenVINO's own format."""

from __future__ import annotations

from pathlib import Path

from multigrain.export.job import Exported, RerankerJob
from multigrain.export.reranker.onnx import READER_FILE, backend_of, write_onnx_folder
from multigrain.export.reranker.parity import check_pair_parity
from multigrain.export.reranker.reader import Reranker
from multigrain.export.targets.openvino import (
    OPENVINO_FILE,
    open_graph,
    openvino_alone,
    require_openvino,
    write_openvino,
)


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
    return openvino_alone(
        folder,
        backend_of("openvino"),
        reader=READER_FILE,
        difference=difference,
        lines=(
            f"{OPENVINO_FILE}: the model's scores within {difference:.1e} (log-odds), computed in float32",
            "inputs are those of export.json, by tokenizer.json; the output is logits",
        ),
    )


def open_folder(folder: Path, *, threads: int | None = None) -> Reranker:
    """A folder that `export` wrote, computed by OpenVINO.

    Args:
        folder: it and the graph in it.
        threads: that one forward pass may use; None for all.
    """
    return Reranker(folder, session=open_graph(folder, threads=threads))

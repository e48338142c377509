"""The same graph in OpenVINO's own format."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

from multigrain.display.install import install_line
from multigrain.errors import MissingExtraError
from multigrain.export.backend_form import BackendForm, backend_form
from multigrain.export.embedder import Embedder
from multigrain.export.job import Exported, ExportJob
from multigrain.export.parity import check_parity
from multigrain.export.targets.onnx import ONNX_FILE, note_facts, write_onnx_folder

OPENVINO_FILE: Final = "openvino_model.xml"


def export(job: ExportJob, folder: Path) -> Exported:
    """Write openvino_model.xml and .bin beside the tokenizer and the settings.

    Raises:
        ExportError: as `multigrain.export.targets.onnx.export`.
        MissingExtraError: openvino, or the extra `onnx`, is not installed.
    """
    require_openvino()
    backend = backend_form(job, "openvino")
    model, _ = write_onnx_folder(job, folder, backend)
    write_openvino(folder)
    difference = check_parity(model, open_folder(folder), what=f"{job.source} as OpenVINO")
    return openvino_alone(
        folder,
        backend,
        reader="embedder.py",
        difference=difference,
        lines=(
            f"{OPENVINO_FILE}: the model's vectors within {difference:.1e}, computed in float32",
            "inputs are input_ids and attention_mask of tokenizer.json; the output is sentence_embedding",
        ),
    )


def openvino_alone(
    folder: Path, backend: BackendForm, *, reader: str, difference: float, lines: tuple[str, ...]
) -> Exported:
    """Remove the ONNX graph that OpenVINO's was made of, and say what is left.

    Args:
        folder: with both graphs; what was measured is noted in its settings.
        backend: whether sentence-transformers opens the folder.
        reader: the file in it that reads ONNX.
        difference: between the model's output and OpenVINO's, at most.
        lines: for people.
    """
    for path in folder.glob(f"{ONNX_FILE}*"):
        path.unlink()
    (folder / reader).unlink()
    facts: dict[str, Any] = {"max_difference": difference, "files": [OPENVINO_FILE, "openvino_model.bin"]}
    facts |= backend.facts
    note_facts(folder, facts)
    return Exported(facts=facts, lines=(*lines, backend.line))


def open_folder(folder: Path, *, threads: int | None = None) -> Embedder:
    """A folder that `export` wrote, computed by OpenVINO.

    Args:
        folder: it and the graph in it.
        threads: that one forward pass may use; None for all.
    """
    return Embedder(folder, session=open_graph(folder, threads=threads))


def write_openvino(folder: Path) -> None:
    """Turn a folder's ONNX graph into one of OpenVINO, in float32; the ONNX graph stays."""
    import openvino

    graph = openvino.convert_model(str(folder / ONNX_FILE))
    openvino.save_model(graph, str(folder / OPENVINO_FILE), compress_to_fp16=False)


def require_openvino() -> None:
    """See that the package is there.

    Raises:
        MissingExtraError: it is not.
    """
    if find_spec("openvino") is None:
        raise MissingExtraError("openvino", "exporting to OpenVINO", install_line("openvino"))


def open_graph(folder: Path, *, threads: int | None = None) -> Session:
    """A folder's graph, compiled.

    Args:
        folder: where it lies.
        threads: that one forward pass may use; None for all.
    """
    import openvino

    # float32 throughout: left to itself, the CPU plug-in computes in bfloat16 where there are units for it.
    options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None:
        options["INFERENCE_NUM_THREADS"] = threads
    return Session(openvino.Core().compile_model(str(folder / OPENVINO_FILE), "CPU", options))


class Session:
    """A compiled model behind the one call of onnxruntime's sessions that readers of folders make."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled

    def run(self, outputs: list[str], inputs: dict[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        """The named outputs."""
        tensors = self._compiled(inputs)
        return [tensors[name] for name in outputs]

"""A folder with a query adapter for a model behind an endpoint: the base's name, a small map, and nothing else."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from sentence_transformers import SentenceTransformer

from multigrain.config.paths import ADAPTER_FILE
from multigrain.encoders import adapter_reader
from multigrain.encoders.journaled import require_same_probe
from multigrain.encoders.protocol import Encoder, Floats, Role, RoleEncoder, encode_as
from multigrain.encoders.served import BATCH_SIZE, ServedEncoder
from multigrain.encoders.stored import model_of
from multigrain.errors import MissingExtraError, ModelError
from multigrain.model.query_adapter import QueryAdapter

ONNX_FILE: Final = "query_adapter.onnx"
READER_FILE: Final = "adapter_reader.py"


@dataclass(frozen=True)
class AdapterNote:
    """What `query_adapter.json` says.

    Attributes:
        base: the embedding model, `openai:MODEL` or `openai:MODEL@ADDRESS`.
        kind: of the map.
        rank: of the map; 0 where it has none.
        dimensions: of the vectors.
        query_prompt: put before every query.
        document_prompt: put before every document.
        probe: a text.
        probe_vector: the base's vector of it, when the adapter was trained.
        since: the day of that.
        format: of this file.
    """

    base: str
    kind: str
    rank: int
    dimensions: int
    query_prompt: str
    document_prompt: str
    probe: str
    probe_vector: list[float]
    since: str
    format: int = 1


def is_adapted(reference: str) -> bool:
    """Whether a reference is a folder with an adapter for a model behind an endpoint."""
    return (Path(reference).expanduser() / ADAPTER_FILE).is_file()


def save_adapted(folder: Path, note: AdapterNote, adapter: QueryAdapter) -> None:
    """Write an adapter: its note, its weights, a reader that needs numpy alone and, where onnx is installed, a graph.

    Args:
        folder: an empty one.
        note: what is known of it.
        adapter: the map, for vectors of length 1.
    """
    arrays = adapter.arrays()
    np.savez(folder / adapter_reader.WEIGHTS, **arrays)  # type: ignore[arg-type]
    shutil.copyfile(adapter_reader.__file__, folder / READER_FILE)
    if find_spec("onnx") is not None:
        write_onnx(folder / ONNX_FILE, arrays)
    (folder / ADAPTER_FILE).write_text(json.dumps(asdict(note), ensure_ascii=False, indent=2), encoding="utf-8")


def read_note(folder: str | Path) -> AdapterNote:
    """What a folder says of its adapter.

    Raises:
        ModelError: it cannot be read.
    """
    path = Path(folder).expanduser() / ADAPTER_FILE
    try:
        return TypeAdapter(AdapterNote).validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ModelError(f"{path}: no note of a query adapter ({type(error).__name__})") from None


def load_adapted(
    folder: str | Path, *, encoder: Encoder | None = None, batch_size: int = BATCH_SIZE
) -> SentenceTransformer:
    """A model that asks the base's endpoint: `encode_query` moves what it answers, `encode_document` does not.

    Before the first text is sent, the vector of a probe text is compared with the one that the adapter was trained on.

    Args:
        folder: with an adapter.
        encoder: embeds in place of the endpoint, as the base does, e.g. from what was kept; None asks the endpoint.
        batch_size: texts a request.

    Raises:
        ModelError: the folder cannot be read.
        ConfigError: the endpoint's address cannot be, or has no key.
    """
    note = read_note(folder)
    try:
        arrays = adapter_reader.load(Path(folder).expanduser()).arrays
        adapter = QueryAdapter.from_arrays(arrays)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"{folder}: its {adapter_reader.WEIGHTS} cannot be read ({type(error).__name__})") from None
    if adapter.dimensions != note.dimensions:
        raise ModelError(
            f"{folder}: its matrices move {adapter.dimensions} dimensions, its note says {note.dimensions}"
        )
    base = encoder or _Probed(
        ServedEncoder(
            note.base, batch_size=batch_size, query_prompt=note.query_prompt, document_prompt=note.document_prompt
        ),
        note,
    )
    model = model_of(base, adapter)
    model.prompts |= {"query": note.query_prompt, "document": note.document_prompt}
    return model.eval()


class _Probed(RoleEncoder):
    """An endpoint whose vectors are compared, once, with those that an adapter was trained on."""

    def __init__(self, encoder: ServedEncoder, note: AdapterNote) -> None:
        self._encoder = encoder
        self._note = note
        self._known = False

    @property
    def fingerprint(self) -> str:
        return self._encoder.fingerprint

    def _encode(self, texts: Any, role: Role) -> Floats:
        if not self._known:
            kept = np.array(self._note.probe_vector, dtype=np.float32)
            now = self._encoder.encode_queries([self._note.probe])[0]
            remedy = "train the adapter again on what it gives now"
            require_same_probe(now, kept, self._encoder.where, since=self._note.since, remedy=remedy)
            self._known = True
        return encode_as(self._encoder, texts, role)


def write_onnx(path: Path, arrays: dict[str, NDArray[np.float32]]) -> None:
    """Write an adapter as a graph: `vectors` (n, dimensions) in, `adapted` (n, dimensions) out, in float32.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    if find_spec("onnx") is None:
        raise MissingExtraError("onnx", ONNX_FILE, "pip install onnx")
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = [numpy_helper.from_array(np.ascontiguousarray(array.T), name) for name, array in arrays.items()]
    least = numpy_helper.from_array(np.array(1e-12, dtype=np.float32), "least")
    axis = numpy_helper.from_array(np.array([1], dtype=np.int64), "axis")

    def node(kind: str, *inputs: str, output: str, **options: Any) -> Any:
        return helper.make_node(kind, list(inputs), [output], **options)

    if "matrix" in arrays:
        size = arrays["matrix"].shape[0]
        nodes = [node("MatMul", "vectors", "matrix", output="moved")]
    else:
        size, hidden = arrays["down"].shape[1], "hidden"
        nodes = [node("MatMul", "vectors", "down", output="hidden")]
        if "bias" in arrays:
            nodes += [node("Add", "hidden", "bias", output="biased"), node("Relu", "biased", output="positive")]
            hidden = "positive"
        nodes += [node("MatMul", hidden, "up", output="added"), node("Add", "vectors", "added", output="moved")]
    nodes += [
        node("ReduceL2", "vectors", "axis", output="length", keepdims=1),
        node("ReduceL2", "moved", "axis", output="own", keepdims=1),
        node("Max", "own", "least", output="divisor"),
        node("Div", "length", "divisor", output="scale"),
        node("Mul", "moved", "scale", output="adapted"),
    ]
    shape = ["n", size]
    graph = helper.make_graph(
        nodes,
        "query_adapter",
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("adapted", TensorProto.FLOAT, shape)],
        [*weights, least, axis],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))

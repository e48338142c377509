#!/usr/bin/env bash
# onnxruntime 1.32.0: `quantize_dynamic(per_channel=True)` quantises the table of token embeddings too, with one scale for
# the whole table (guessed: a scale a row, as matrices get one a column, or float32 kept). A single token whose row is
# large takes the precision of all others.
# Output seen: scales of the matrix [8], of the table []; rows are off by 0.9 percent, and by 12 once one of them is 50
# times as large.
source "$(dirname "$0")/_run.sh"
in_environment onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6 <<'PY'
import logging

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

logging.disable(logging.WARNING)
draw = np.random.default_rng(0)
matrix = draw.standard_normal((16, 8)).astype(np.float32)
table = draw.standard_normal((50, 16)).astype(np.float32)


def loss(table: np.ndarray) -> float:
    """How far rows of the table, the last left out, are off once quantised, as a share of their length."""
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "ids"], ["rows"]), helper.make_node("MatMul", ["rows", "matrix"], ["out"])],
        "encoder",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
        [
            helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", 16]),
            helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 8]),
        ],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(matrix, "matrix")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, "model.onnx")
    quantize_dynamic("model.onnx", "int8.onnx", per_channel=True, weight_type=QuantType.QUInt8)
    shapes = {tensor.name: list(tensor.dims) for tensor in onnx.load("int8.onnx").graph.initializer}
    print("scales:", shapes["matrix_scale"], shapes["table_scale"])
    assert shapes["matrix_scale"] == [8]
    assert shapes["table_scale"] == []
    session = onnxruntime.InferenceSession("int8.onnx", providers=["CPUExecutionProvider"])
    rows = session.run(["rows"], {"ids": np.arange(49)})[0]
    return float(np.mean(np.linalg.norm(rows - table[:49], axis=1) / np.linalg.norm(table[:49], axis=1)))


even = loss(table)
table[49] *= 50
uneven = loss(table)
print(f"{even:.3f} {uneven:.3f}")
assert even < 0.02
assert uneven > 0.1
PY

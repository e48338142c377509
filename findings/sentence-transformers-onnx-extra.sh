#!/usr/bin/env bash
# sentence-transformers 6.2.0: the extra `onnx`, for `backend="onnx"`, asks for optimum-onnx, whose newest version 0.1.0 wants
# transformers below 4.58, and sentence-transformers itself wants 5 (guessed: its own backend can be installed with it). So
# pip finds no versions for `sentence-transformers[onnx]==6.2.0`, or takes an older sentence-transformers.
# Output seen: sentence-transformers: transformers<6.0.0,>=5.0.0; optimum-onnx: transformers<4.58.0,>=4.36
source "$(dirname "$0")/_run.sh"
in_environment --no-deps sentence-transformers==6.2.0 optimum-onnx==0.1.0 packaging==26.3 <<'PY'
from importlib.metadata import requires

from packaging.requirements import Requirement

wanted = {}
for package in ("sentence-transformers", "optimum-onnx"):
    found = [Requirement(line) for line in requires(package)]
    (wanted[package],) = [one for one in found if one.name == "transformers" and one.marker is None]
print("; ".join(f"{package}: {requirement}" for package, requirement in wanted.items()))
extra = [Requirement(line) for line in requires("sentence-transformers")]
assert any(one.name == "optimum-onnx" and one.marker and one.marker.evaluate({"extra": "onnx"}) for one in extra)
versions = ["4.36.0", "4.57.6", "5.0.0", "5.5.4", "5.23.0"]
assert not any(all(version in one.specifier for one in wanted.values()) for version in versions)
PY

"""A small map of query vectors: linear, low-rank, or an MLP of one hidden layer.

It is added to the vector that it is given, begins at zero, and the sum is scaled to the length of that vector: so it
begins as the identity, and a base whose vectors have length 1 keeps that. Such maps are what "query-only" adapters of
retrieval libraries train; see also NUDGE (arXiv 2409.02343), which moves documents instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers.base.modules import Dense, Module
from torch import Tensor, nn

AdapterKind: TypeAlias = Literal["linear", "low-rank", "mlp"]


class QueryAdapter(Module):
    """Moves the vectors of queries.

    The names of the two thin matrices are LoRA's, so that merging (`training.merging`) scales what they add together.

    Args:
        dimensions: of the vectors.
        kind: linear: a whole matrix. low-rank: a product of two. mlp: the same with a ReLU between them.
        rank: width between the two; of no use to a whole matrix.
        seed: of the first values; what is added is zero whatever they are.
    """

    config_keys = ["dimensions", "kind", "rank"]  # noqa: RUF012 - as sentence-transformers' modules have it

    def __init__(self, dimensions: int, kind: AdapterKind, rank: int = 0, *, seed: int = 0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dimensions, self.kind, self.rank = dimensions, kind, rank
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if kind == "linear":
                self.change = nn.Linear(dimensions, dimensions, bias=False)
                last = self.change
            else:
                self.lora_A = nn.Linear(dimensions, rank, bias=kind == "mlp")
                self.lora_B = last = nn.Linear(rank, dimensions, bias=False)
        nn.init.zeros_(last.weight)

    def forward(self, features: dict[str, Tensor], **kwargs: Any) -> dict[str, Tensor]:
        """Move `sentence_embedding`: (n, dimensions)."""
        del kwargs
        vectors = features["sentence_embedding"]
        moved = vectors + self._added(vectors)
        lengths = vectors.norm(dim=1, keepdim=True) / moved.norm(dim=1, keepdim=True).clamp_min(1e-12)
        return {**features, "sentence_embedding": moved * lengths}

    def _added(self, vectors: Tensor) -> Tensor:
        if self.kind == "linear":
            return self.change(vectors)  # type: ignore[no-any-return]
        hidden = self.lora_A(vectors)
        return self.lora_B(hidden.relu() if self.kind == "mlp" else hidden)  # type: ignore[no-any-return]

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The map as matrices.

        Returns:
            `matrix` (dimensions, dimensions), which a vector is multiplied with; or `down` (rank, dimensions) and `up`
            (dimensions, rank), whose product's result is added to the vector, with a ReLU between them where there is
            a `bias` (rank), too.
        """
        if self.kind == "linear":
            return {"matrix": np.eye(self.dimensions, dtype=np.float32) + _array(self.change.weight)}
        thin = {"down": _array(self.lora_A.weight), "up": _array(self.lora_B.weight)}
        return thin if self.kind == "low-rank" else {**thin, "bias": _array(self.lora_A.bias)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.float32]]) -> QueryAdapter:
        """The map that `arrays` gave."""
        if "matrix" in arrays:
            adapter = cls(arrays["matrix"].shape[0], "linear")
            weights = {"change.weight": arrays["matrix"] - np.eye(adapter.dimensions, dtype=np.float32)}
        else:
            rank, dimensions = arrays["down"].shape
            adapter = cls(dimensions, "mlp" if "bias" in arrays else "low-rank", rank)
            weights = {"lora_A.weight": arrays["down"], "lora_B.weight": arrays["up"]}
            weights |= {"lora_A.bias": arrays["bias"]} if "bias" in arrays else {}
        adapter.load_state_dict({name: torch.from_numpy(weight) for name, weight in weights.items()})
        return adapter

    def dense(self) -> list[Dense]:
        """The map, without its scaling, as sentence-transformers' own modules.

        An MLP's vector passes through its ReLU as the pair x and -x, of which what is added is the vector again.
        """
        arrays, size = self.arrays(), self.dimensions
        same = np.eye(size, dtype=np.float32)
        if self.kind == "linear":
            return [_dense(arrays["matrix"])]
        if self.kind == "low-rank":
            return [_dense(same + arrays["up"] @ arrays["down"])]
        down = np.concatenate([same, -same, arrays["down"]])
        bias = np.concatenate([np.zeros(2 * size, dtype=np.float32), arrays["bias"]])
        return [_dense(down, bias, nn.ReLU()), _dense(np.concatenate([same, -same, arrays["up"]], axis=1))]

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write settings and weights, as sentence-transformers asks."""
        del args, kwargs
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)


def _array(weight: Tensor) -> NDArray[np.float32]:
    return np.array(weight.detach().float().cpu().numpy(), dtype=np.float32)  # a copy: training goes on


def _dense(
    weight: NDArray[np.float32], bias: NDArray[np.float32] | None = None, activation: nn.Module | None = None
) -> Dense:
    return Dense(
        weight.shape[1],
        weight.shape[0],
        bias=bias is not None,
        activation_function=activation or nn.Identity(),
        init_weight=torch.from_numpy(weight),
        init_bias=None if bias is None else torch.from_numpy(bias),
    )

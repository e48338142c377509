"""GELU as llama.cpp computes it in BERT and Gemma 3: the tanh approximation, on a CPU from a table of float16.

A model that was trained with the exact GELU can be written so that this hardly matters: each neuron of a feed-forward
layer becomes several, and the sum of their approximations is the exact function.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from multigrain.export.llama_cpp.architectures import Architecture

_GELU_END: Final = 10.0


@dataclass(frozen=True, slots=True)
class Term:
    """One neuron of several that stand for one.

    Attributes:
        outer: what its activation is multiplied by.
        inner: what its input is multiplied by.
    """

    outer: float
    inner: float


ONE_FOR_ONE: Final = (Term(1.0, 1.0),)
"""Every neuron as it is."""

_PRODUCTS: Final = ((0.27910726, 0.9069), (0.36978151, 1.0575), (0.4285982, 1.0665))
"""(outer times inner, inner), fitted by least squares. The last two do one's work: they are rounded apart."""

_LAST: Final = 1.31

FOUR_FOR_ONE: Final = (
    *(Term(product / inner, inner) for product, inner in _PRODUCTS),
    # Large numbers stay themselves: the products of outer and inner add up to 1.
    Term((1 - sum(product for product, _ in _PRODUCTS)) / _LAST, _LAST),
)
"""Their sum differs from GELU by 1.2e-5 at most, the tanh approximation by 4.7e-4. Each is rounded to float16 on its
own, so that their sum is off by less than one of them."""


def terms_of(config: Any, architecture: Architecture, dtype: str) -> tuple[Term, ...]:
    """What each neuron of the feed-forward layers is written as: several where that makes a float32 file exact."""
    exact = dtype == "f32" and bool(architecture.feed_forward) and config.hidden_act == "gelu"
    return FOUR_FOR_ONE if exact else ONE_FOR_ONE


class TableGelu(nn.Module):
    """GELU as llama.cpp computes it on a CPU: the tanh approximation, from a table of float16 to float16.

    Args:
        terms: what each neuron is written as.
    """

    def __init__(self, terms: Sequence[Term] = ONE_FOR_ONE) -> None:
        super().__init__()
        self._terms = terms

    def forward(self, states: Tensor) -> Tensor:
        """One number at a time."""
        return torch.stack([term.outer * _from_table(term.inner * states) for term in self._terms]).sum(0)


def _from_table(states: Tensor) -> Tensor:
    """Beyond 10 it is the number itself, below -10 nothing."""
    found = nn.functional.gelu(states.half().float(), approximate="tanh").half().float()
    return torch.where(states <= -_GELU_END, 0.0, torch.where(states >= _GELU_END, states, found))


def with_table_gelu(model: nn.Module, terms: Sequence[Term] = ONE_FOR_ONE) -> None:
    """Have a transformer compute GELU as llama.cpp does, in place."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if "GELU" in type(child).__name__:
                setattr(module, name, TableGelu(terms))

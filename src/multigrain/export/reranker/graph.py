"""A whole reranker as one traceable module: token numbers of pairs in, log-odds out."""

from __future__ import annotations

from typing import Any, Final

from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Transformer
from torch import Tensor, nn, zeros_like

from multigrain.errors import ExportError
from multigrain.export.graph import TracedModule

_TYPES: Final = "token_type_ids"
_INPUTS: Final = ("input_ids", "attention_mask", _TYPES)
_ACTIVATIONS: Final = {nn.Sigmoid: "sigmoid", nn.Identity: "identity"}


class PairGraph(TracedModule):
    """A reranker without what turns its log-odds into scores.

    Args:
        model: a reranker; its transformer is shared, not copied.

    Attributes:
        inputs: the names of what `forward` takes.

    Raises:
        ExportError: it is more than a transformer with one score a pair.
    """

    outputs = ("logits",)

    def __init__(self, model: CrossEncoder) -> None:
        super().__init__()
        self.transformer = require_pair_scorer(model).model
        self.architecture = type(self.transformer).__name__
        given = model.preprocess([("a", "b")])
        self.inputs = tuple(name for name in _INPUTS if name in given)

    def examples(self) -> dict[str, Tensor]:
        """As `TracedModule.examples`, and which text of the pair a token belongs to, where that is taken."""
        inputs = super().examples()
        if _TYPES in self.inputs:
            inputs[_TYPES] = zeros_like(inputs["input_ids"])
            inputs[_TYPES][:, 3:] = 1
        return inputs

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Score token numbers.

        Args:
            input_ids: (batch, tokens) int64.
            attention_mask: (batch, tokens) int64, 0 for padding.
            token_type_ids: (batch, tokens) int64, 0 for the query and 1 for the document; None where the model's
                tokenizer gives none.

        Returns:
            (batch, 1) float32 log-odds.
        """
        features: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            features[_TYPES] = token_type_ids
        return (self.transformer(**features, return_dict=True).logits,)


def require_pair_scorer(model: CrossEncoder) -> Transformer:
    """The transformer of a reranker that is nothing else, and scores plain pairs.

    Raises:
        ExportError: it has further modules, another head, several scores a pair, or a prompt.
    """
    first, *further = model.children()
    if further or not isinstance(first, Transformer) or first.transformer_task != "sequence-classification":
        names = " → ".join(type(module).__name__ for module in model.children())
        raise ExportError(
            f"its modules are {names}; exported are rerankers of one transformer with a head that classifies sequences"
        )
    if first.backend != "torch":
        raise ExportError(f"it was loaded with the {first.backend!r} backend; load it with torch")
    if model.num_labels != 1:
        raise ExportError(f"it gives {model.num_labels} scores a pair; a reranker gives one")
    if "message" in first.modality_config:
        raise ExportError("it puts pairs into a chat; only rerankers that read plain pairs can be exported")
    if model.prompts.get(model.default_prompt_name or ""):
        raise ExportError("it puts a prompt before pairs, which exports of rerankers do not carry")
    scorer: Transformer = first
    return scorer


def activation_name(model: CrossEncoder) -> str:
    """What turns log-odds into scores, as export.json names it: sigmoid or identity.

    Raises:
        ExportError: something else does.
    """
    kind: Any = type(model.activation_fn)
    name = _ACTIVATIONS.get(kind)
    if name is None:
        known = " and ".join(each.__name__ for each in _ACTIVATIONS)
        raise ExportError(
            f"its scores come out of {kind.__name__}, and exported are {known}: save it again "
            "with one of these as activation_fn"
        )
    return name

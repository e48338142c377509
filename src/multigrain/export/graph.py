"""A whole encoder as one traceable module: token numbers in, vectors out.

Attention received is computed here in the plainest way, all queries and heads at once, since a graph needs operations
that every runtime has and no loop that depends on the data. It holds the last layer's whole attention map.
"""

from __future__ import annotations

from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.base.modules import Normalize, Router, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import Tensor, finfo, full, log1p, long, nn, ones, ones_like, softmax, tensor
from torch import bool as torch_bool

from multigrain.errors import ExportError
from multigrain.model.attention.received import Reduction, Scores, seen_by
from multigrain.model.attention.sdpa import ReceivedAttention
from multigrain.model.pooling import AnchorTokenPooling
from multigrain.model.replacing import is_pooling
from multigrain.model.transformer import RECEIVED_FEATURE, ReceivingTransformer, marked_layer

# Tokenizers without a limit say so with a huge number.
_NO_LIMIT = 1_000_000


def require_text_encoder(model: SentenceTransformer) -> Transformer:
    """The transformer of a model that embeds plain texts.

    Raises:
        ExportError: the model begins with something else, reads chats or images, or has other lengths for queries.
    """
    first = model[0]
    if isinstance(first, Router):
        raise ExportError(
            "its Router embeds queries and documents by modules of their own, and this form holds one way for both: "
            "use --to folder"
        )
    if not isinstance(first, Transformer):
        raise ExportError(
            f"it begins with {type(first).__name__}, and only models that begin with a Transformer can be exported"
        )
    if first.backend != "torch":
        raise ExportError(f"it was loaded with the {first.backend!r} backend; load it with torch")
    if "text" not in first.modality_config or "message" in first.modality_config:
        raise ExportError(f"it reads {', '.join(map(str, first.modality_config))}; only plain texts can be exported")
    if first.query_length or first.document_length:
        raise ExportError("it cuts queries and documents at different lengths, which exports do not carry")
    encoder: Transformer = first
    return encoder


def is_normalised(model: SentenceTransformer) -> bool:
    """Whether a model's vectors have length 1; those that are cut have less."""
    return model.truncate_dim is None and any(isinstance(module, Normalize) for module in model.children())


def token_limit(model: SentenceTransformer | CrossEncoder) -> int | None:
    """Tokens of a text, or of a pair, that are read, special ones included; None for no limit."""
    limit = model.max_seq_length
    return None if limit is None or limit > _NO_LIMIT else int(limit)


class TracedModule(nn.Module):
    """What is written as a graph: batch and sequence of its inputs are dynamic, numbers are numbers.

    Attributes:
        architecture: the class of its transformer, for errors.
        outputs: the names of what `forward` returns.
    """

    architecture: str
    outputs: tuple[str, ...]

    def examples(self) -> dict[str, Tensor]:
        """Inputs of `forward` by name, in its order: two texts, one of them padded."""
        # Sizes of 1 would be taken for constants.
        ids = full((2, 7), 3, dtype=long)
        mask = ones_like(ids)
        mask[1, 4:] = 0
        return {"input_ids": ids, "attention_mask": mask}


class EmbeddingGraph(TracedModule):
    """An encoder with its pooling and what follows it.

    Args:
        model: an encoder; its modules are shared, not copied.
        states: give the states of tokens too, for readers that pool by themselves.

    Attributes:
        takes_prompt_length: whether `forward` must be told how many tokens are prompt, which the pooling leaves out.

    Raises:
        ExportError: see `require_text_encoder`.
    """

    def __init__(self, model: SentenceTransformer, *, states: bool = False) -> None:
        super().__init__()
        self.outputs = ("sentence_embedding", "last_hidden_state") if states else ("sentence_embedding",)
        self.transformer = require_text_encoder(model)
        self.architecture = type(self.transformer.model).__name__
        self.kept = model.truncate_dim
        self.rest = nn.ModuleList(list(model.children())[1:])
        poolings = [module for module in self.rest if is_pooling(module)]
        if not poolings:
            raise ExportError("it has no pooling over tokens")
        self.takes_prompt_length = not all(module.include_prompt for module in poolings)

    def examples(self) -> dict[str, Tensor]:
        """As `TracedModule.examples`, and the length of a prompt where it is taken."""
        inputs = super().examples()
        return inputs | {"prompt_length": tensor(1)} if self.takes_prompt_length else inputs

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, prompt_length: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Embed token numbers.

        Args:
            input_ids: (batch, tokens) int64.
            attention_mask: (batch, tokens) int64, 0 for padding.
            prompt_length: () int64, leading tokens that are prompt; only where `takes_prompt_length`.

        Returns:
            (batch, dimension) float32; where states are asked for, (batch, tokens, width) float32 too.
        """
        features = {"input_ids": input_ids, "attention_mask": attention_mask}
        if isinstance(self.transformer, ReceivingTransformer):
            layer, calls = marked_layer(self.transformer.model)
            observer = _TracedAttention(layer, attention_mask.bool(), self.transformer.reduction, calls=calls)
            features = self.transformer.run_observed(features, observer)
            features[RECEIVED_FEATURE] = observer.take()
        else:
            features = self.transformer(features)
        states = features["token_embeddings"]
        for module in self.rest:
            if prompt_length is not None and isinstance(module, AnchorTokenPooling):
                features["prompt_length"] = prompt_length
            elif prompt_length is not None and isinstance(module, Pooling):
                rest = attention_mask.cumsum(1) > prompt_length
                features["attention_mask"] = attention_mask * rest.to(attention_mask.dtype)
            features = module(features)
        return (features["sentence_embedding"][:, : self.kept], states)[: len(self.outputs)]


class _TracedAttention(ReceivedAttention):
    """ReceivedAttention in plain operations."""

    def _reduce(self, scores: Scores, value: Tensor) -> tuple[None, Tensor]:
        assert self._valid is not None  # noqa: S101 (the graph always has a mask)
        return None, received_plainly(scores, self._valid, self._reduction)


def received_plainly(scores: Scores, valid: Tensor, reduction: Reduction) -> Tensor:
    """What `multigrain.model.attention.received.attention_received` returns, the whole attention map at once.

    Args:
        scores: what one layer's attention is computed from.
        valid: (batch, tokens) bool, False for padding.
        reduction: how queries and heads are reduced; nothing is detached.

    Returns:
        (batch, tokens) float32 weights, zero for padding.
    """
    query, key = scores.query.float(), scores.key.float()
    if query.shape[1] != key.shape[1]:
        key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    logits = query @ key.transpose(2, 3) * scores.scaling
    if scores.bias is not None:
        logits = logits + scores.bias
    hidden = finfo(logits.dtype).min
    if scores.mask is not None and scores.mask.dtype == torch_bool:
        logits = logits.masked_fill(~scores.mask, hidden)
    elif scores.mask is not None:
        logits = (logits + scores.mask).clamp(min=hidden)
    elif scores.causal:
        later = ones(logits.shape[2:], dtype=torch_bool, device=logits.device).triu(1)
        logits = logits.masked_fill(later, hidden)
    attention = softmax(logits, -1)
    counted = valid.to(attention.dtype)
    if reduction.reduce == "diagonal":
        own = attention.diagonal(dim1=2, dim2=3)
        return (own.amax(1) if reduction.heads == "max" else own.mean(1)) * counted
    shared = attention.amax(1) if reduction.heads == "max" else attention.mean(1)
    if reduction.reduce == "log":
        shared = log1p(shared * counted.sum(1).view(-1, 1, 1))
    received = (counted.unsqueeze(1) @ shared).squeeze(1)
    if reduction.reduce == "mean":
        received = received / seen_by(scores, valid).clamp(min=1)
    return received * counted

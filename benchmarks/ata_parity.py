"""Attention received against eager attention's maps, architecture by architecture.

    python benchmarks/ata_parity.py            # a table
    python benchmarks/ata_parity.py --json     # and one JSON object as the last line

For each architecture a small random model is built from its config. Attention received is read in a forward pass with
SDPA in every layer, and compared with sums over the maps that `output_attentions=True` returns under eager attention:
texts of odd and of very different lengths, one text alone, padding left and right, the reductions sum, log and mean,
heads mean and max, all in float32. `architectures` holds for each the largest difference of the weights: those that
pool, which add up to 1 in a text, absolutely, and the sums they are made from, which grow with the text, relative to
themselves where they are above 1. `worst` is the largest of all. The limit is 1e-4; beyond it the exit code is 1.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoModel

from multigrain.model.attention.mpnet import announced, observe_mpnet
from multigrain.model.attention.received import Reduction
from multigrain.model.attention.sdpa import ATTENTION_NAME, OBSERVER_ARGUMENT, LayerTrace, ReceivedAttention

LIMIT = 1e-4
SHAPE: dict[str, Any] = {
    "vocab_size": 500,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "max_position_embeddings": 320,
    "pad_token_id": 1,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
GROUPED = {"num_key_value_heads": 2}
WINDOWS = {"sliding_window": 24, "head_dim": 16, **GROUPED}
BOTH_WAYS = {"is_causal": False}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertConfig", {}),
    "roberta": ("RobertaConfig", {}),
    "xlm-roberta": ("XLMRobertaConfig", {}),
    "distilbert": ("DistilBertConfig", {"dim": 64, "n_heads": 8, "n_layers": 4, "hidden_dim": 96}),
    "electra": ("ElectraConfig", {"embedding_size": 64}),
    "albert (one module, four calls)": ("AlbertConfig", {"embedding_size": 64}),
    "mpnet (last attention replaced)": ("MPNetConfig", {}),
    "modernbert, last layer global": ("ModernBertConfig", {"local_attention": 32}),
    "modernbert, last layer local": ("ModernBertConfig", {"local_attention": 32, "num_hidden_layers": 3}),
    "llama": ("LlamaConfig", GROUPED),
    "llama, bidirectional": ("LlamaConfig", {**GROUPED, **BOTH_WAYS}),
    "mistral, sliding window": ("MistralConfig", {"sliding_window": 24, **GROUPED}),
    "mistral, bidirectional": ("MistralConfig", {"sliding_window": None, **GROUPED, **BOTH_WAYS}),
    "qwen2": ("Qwen2Config", GROUPED),
    "qwen2, bidirectional": ("Qwen2Config", {**GROUPED, **BOTH_WAYS}),
    "qwen3": ("Qwen3Config", {"head_dim": 16, **GROUPED}),
    "qwen3, bidirectional": ("Qwen3Config", {"head_dim": 16, **GROUPED, **BOTH_WAYS}),
    "gemma3, last layer global": (
        "Gemma3TextConfig",
        {**WINDOWS, "layer_types": ["sliding_attention", "full_attention"] * 2},
    ),
    "gemma3, last layer sliding": (
        "Gemma3TextConfig",
        {**WINDOWS, "layer_types": ["full_attention", "sliding_attention"] * 2},
    ),
    "gemma3, bidirectional": (
        "Gemma3TextConfig",
        {**WINDOWS, "layer_types": ["sliding_attention", "full_attention"] * 2, "use_bidirectional_attention": True},
    ),
}
BATCHES = ([257, 1, 64, 131], [37], [48, 48])


def main() -> int:
    """Compare every architecture; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    arguments = parser.parse_args()
    worst: dict[str, float] = {}
    for name in ARCHITECTURES:
        worst[name] = compare(name)
        print(f"{name:36}{worst[name]:10.1e}", file=sys.stderr if arguments.json else sys.stdout, flush=True)
    largest = max(worst.values())
    if arguments.json:
        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        print(json.dumps({"architectures": worst, "worst": largest, "limit": LIMIT, "versions": versions}))
    else:
        print(f"{'worst':36}{largest:10.1e}   (limit {LIMIT:.0e})")
    return int(largest > LIMIT)


def compare(name: str) -> float:
    """The largest difference of one architecture, over batches, padding sides and reductions."""
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    config_name, settings = ARCHITECTURES[name]
    model = AutoModel.from_config(getattr(transformers, config_name)(**{**SHAPE, **settings})).eval()
    for parameter in model.parameters():
        # As initialised, random models attend almost evenly, and anything would agree.
        parameter.data.mul_(4.0 if parameter.ndim > 1 else 1.0)
    differences = []
    for lengths, side in itertools.product(BATCHES, ("left", "right")):
        features = batch(lengths, side)
        valid = features["attention_mask"].bool()
        model.set_attn_implementation("eager")
        with torch.no_grad():
            maps = model(**features, output_attentions=True).attentions[-1].double()
        for reduce, heads in itertools.product(("sum", "log", "mean"), ("mean", "max")):
            reduction = Reduction(reduce=reduce, heads=heads)
            found, expected = received(model, features, reduction).double(), sums(maps, valid, reduction)
            differences.append(((found - expected).abs() / expected.clamp(min=1)).max().item())
            share = found / found.sum(1, keepdim=True) - expected / expected.sum(1, keepdim=True)
            differences.append(share.abs().max().item())
    return max(differences)


def batch(lengths: list[int], side: str) -> dict[str, Tensor]:
    """Random tokens of these lengths, padded on one side."""
    longest = max(lengths)
    ids = torch.full((len(lengths), longest), SHAPE["pad_token_id"])
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        place = slice(longest - length, longest) if side == "left" else slice(0, length)
        ids[row, place] = torch.randint(5, SHAPE["vocab_size"], (length,))
        mask[row, place] = 1
    return {"input_ids": ids, "attention_mask": mask}


def received(model: Any, features: dict[str, Tensor], reduction: Reduction) -> Tensor:
    """What the product reads from the layer that runs last."""
    if not observe_mpnet(model):
        model.set_attn_implementation(ATTENTION_NAME)
    layers = run(model, features, LayerTrace()).layers
    calls = sum(layer is layers[-1] for layer in layers)
    valid = features["attention_mask"].bool()
    observer = ReceivedAttention(layers[-1], None if valid.all() else valid, reduction, calls=calls)
    return run(model, features, observer).take()


def run(model: nn.Module, features: dict[str, Tensor], observer: Any) -> Any:
    """One forward pass with an observer; returns the observer."""
    with torch.no_grad(), announced(observer):
        model(**features, **{OBSERVER_ARGUMENT: observer})
    return observer


def sums(maps: Tensor, valid: Tensor, reduction: Reduction) -> Tensor:
    """The same from whole maps, (batch, heads, tokens, tokens)."""
    own = valid[:, :, None] & valid[:, None, :]
    seen = (maps.sum(1) > 0) & own
    shared = (maps.mean(1) if reduction.heads == "mean" else maps.amax(1)) * own
    if reduction.reduce == "log":
        return torch.log1p(shared * valid.sum(1).view(-1, 1, 1)).sum(1)
    total = shared.sum(1)
    return total / seen.sum(1).clamp(min=1) if reduction.reduce == "mean" else total


if __name__ == "__main__":
    sys.exit(main())

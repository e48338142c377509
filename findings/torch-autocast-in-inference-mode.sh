#!/usr/bin/env bash
# torch 2.13.0: autocast keeps the weights that it casts until it ends, but not under `torch.inference_mode()`, where every
# call casts them again (guessed: kept there too, since nothing is recorded). sentence-transformers 6.2.0 encodes in
# inference mode, so in one long autocast block each batch casts all weights anew. Vectors are the same, bit for bit.
# Output seen: casts in two more calls of one linear layer: 2 under no_grad (the input), 6 in inference mode.
source "$(dirname "$0")/_run.sh"
in_environment torch==2.13.0 numpy==2.4.6 <<'PY'
import torch
from torch.profiler import ProfilerActivity, profile

layer, texts = torch.nn.Linear(64, 64), torch.randn(8, 64)


def casts(mode):
    with torch.autocast("cpu", dtype=torch.bfloat16), mode():
        first = layer(texts)
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            assert torch.equal(layer(texts), first)
            assert torch.equal(layer(texts), first)
    return sum(event.count for event in seen.key_averages() if event.key == "aten::_to_copy")


found = {mode.__name__: casts(mode) for mode in (torch.no_grad, torch.inference_mode)}
print(found)
assert found == {"no_grad": 2, "inference_mode": 6}, found
PY

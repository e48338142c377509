"""An OpenAI-compatible endpoint over one GGUF model on a GPU, where no vLLM or llama.cpp with CUDA is to be had.

    python -m benchmarks.gguf_endpoint MODEL.gguf --tokenizer FOLDER --port 8001

Weights are dequantised to bfloat16 once. Requests that wait are answered together, a batch at a time; rows that are
finished leave it. A JSON schema is followed token by token (llguidance). Needs `pip install gguf llguidance`. Only the
qwen2 architecture, whose weights need no reordering; FOLDER holds config.json and the tokenizer, which transformers
writes from the same file: `python -m benchmarks.gguf_endpoint MODEL.gguf --tokenizer FOLDER --prepare`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import queue
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import gguf
import llguidance
import llguidance.hf
import llguidance.numpy
import numpy as np
import torch
from aiohttp import web
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.cache_utils import DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

_LIKELIEST: Final = 64
"""Nucleus sampling looks at this many tokens: sorting a vocabulary of 150,000 costs more than the layers."""
_PREFILL_TOKENS: Final = 65_536
_LAYOUT: Final = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


@dataclass
class Job:
    """A request: what was asked, and where its answer goes."""

    ids: list[int]
    limit: int
    temperature: float
    top_p: float
    grammar: str | None
    answer: Future[tuple[list[int], bool]] = field(default_factory=Future)


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """SDPA that reads grouped keys and values once: where one token asks, its heads of a group are the queries."""
    batch, heads, asking, size = query.shape
    if asking > 1:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)  # type: ignore[return-value]
    groups = key.shape[1]
    mask = None if attention_mask is None else attention_mask[..., : key.shape[2]]
    out = scaled_dot_product_attention(
        query.view(batch, groups, heads // groups, size), key, value, attn_mask=mask, scale=options.get("scaling")
    )
    return out.reshape(batch, 1, heads, size), None


def load_model(path: Path, folder: Path, device: str) -> Any:
    """The model with its weights dequantised; embeddings and output share one matrix where config.json says so."""
    AttentionInterface.register("grouped", grouped_attention)  # type: ignore[no-untyped-call]
    AttentionMaskInterface.register("grouped", sdpa_mask)  # type: ignore[no-untyped-call]
    config = AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, attn_implementation="grouped", dtype=torch.bfloat16)
    tensors = {each.name: each for each in gguf.GGUFReader(path).tensors}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, config.num_hidden_layers)

    def read(name: str) -> tuple[str, torch.Tensor]:
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if name == "model.embed_tokens.weight" and config.tie_word_embeddings:
            found = "output.weight" if "output.weight" in tensors else found
        tensor = tensors[str(found)]
        weights = torch.from_numpy(np.array(gguf.dequantize(tensor.data, tensor.tensor_type)))
        return name, weights.to(device=device, dtype=torch.bfloat16)

    with ThreadPoolExecutor(8) as pool:
        weights = dict(pool.map(read, [name for name, _ in model.named_parameters()]))
    model.load_state_dict(weights, strict=False, assign=True)
    model.tie_weights()
    # Buffers (the rotary frequencies) are not in the file: they are made again where the weights are.
    with torch.device(device):
        model.model.rotary_emb = type(model.model.rotary_emb)(config)
    left = [name for name, each in (*model.named_parameters(), *model.named_buffers()) if each.is_meta]
    if left:
        raise SystemExit(f"{path}: no weights for {', '.join(left)}")
    return model.eval()


class Engine:
    """Answers jobs in batches, in a thread of its own."""

    def __init__(self, model: Any, tokenizer: Any, *, largest: int) -> None:
        self.model, self.tokenizer, self.largest = model, tokenizer, largest
        self.waiting: queue.Queue[Job] = queue.Queue()
        self.vocabulary = int(model.config.vocab_size)
        self.end = int(tokenizer.eos_token_id)
        self.guide = llguidance.hf.from_tokenizer(tokenizer, n_vocab=self.vocabulary)
        self.executor = llguidance.LLExecutor()
        self.tokens, self.seconds = 0, 0.0
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            jobs = [self.waiting.get()]
            time.sleep(0.15)  # let those that were sent together arrive
            while len(jobs) < self.largest and not self.waiting.empty():
                jobs.append(self.waiting.get())
            started = time.monotonic()
            try:
                self._answer(sorted(jobs, key=lambda job: len(job.ids)))
            except Exception as error:
                for job in jobs:
                    if not job.answer.done():
                        job.answer.set_exception(error)
            self.seconds += time.monotonic() - started
            print(
                f"{len(jobs)} answers in {time.monotonic() - started:.1f} s; {self.waiting.qsize()} wait; "
                f"{self.tokens:,} tokens in {self.seconds:.0f} s",
                flush=True,
            )

    def _prefill(self, jobs: list[Job]) -> tuple[torch.Tensor, torch.Tensor, DynamicCache]:
        longest, device = max(len(job.ids) for job in jobs), self.model.device
        ids = torch.zeros(len(jobs), longest, dtype=torch.long)
        mask = torch.zeros(len(jobs), longest, dtype=torch.long)
        for row, job in enumerate(jobs):
            ids[row, longest - len(job.ids) :] = torch.tensor(job.ids)
            mask[row, longest - len(job.ids) :] = 1
        ids, mask = ids.to(device), mask.to(device)
        parts, logits = [], []
        for start in range(0, len(jobs), max(1, _PREFILL_TOKENS // longest)):
            part = slice(start, start + max(1, _PREFILL_TOKENS // longest))
            cache = DynamicCache()
            out = self.model(
                input_ids=ids[part],
                attention_mask=mask[part],
                position_ids=(mask[part].cumsum(1) - 1).clamp(min=0),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            parts.append(cache)
            logits.append(out.logits[:, -1])
        whole = parts[0]
        for number, layer in enumerate(whole.layers):
            layer.keys = torch.cat([part.layers[number].keys for part in parts])
            layer.values = torch.cat([part.layers[number].values for part in parts])
        return torch.cat(logits), mask, whole

    @torch.inference_mode()
    def _answer(self, jobs: list[Job]) -> None:
        device = self.model.device
        logits, mask, cache = self._prefill(jobs)
        position = mask.sum(1)
        matchers = [
            llguidance.LLMatcher(self.guide, job.grammar, log_level=0) if job.grammar else None for job in jobs
        ]
        written: list[list[int]] = [[] for _ in jobs]
        alive = list(range(len(jobs)))  # the job of each row of the batch
        finished: set[int] = set()
        warmth = torch.tensor([job.temperature for job in jobs], device=device)
        nucleus = torch.tensor([job.top_p for job in jobs], device=device)
        while True:
            tokens = self._draw(logits, [matchers[job] for job in alive], warmth, nucleus)
            listed = tokens.tolist()
            guided = [(matchers[job], listed[row]) for row, job in enumerate(alive) if matchers[job] and job not in finished]
            if guided:
                llguidance.numpy.consume_token_par(self.executor, guided)
            for row, job in enumerate(alive):
                if job in finished:
                    continue
                token, matcher = listed[row], matchers[job]
                if token != self.end:
                    written[job].append(token)
                ended = token == self.end or (matcher is not None and matcher.is_stopped())
                if ended or len(written[job]) >= jobs[job].limit:
                    finished.add(job)
                    matchers[job] = None
                    self.tokens += len(written[job])
                    jobs[job].answer.set_result((written[job], ended))
            rows = [row for row, job in enumerate(alive) if job not in finished]
            if not rows:
                return
            if len(rows) <= 0.8 * len(alive):
                keep = torch.tensor(rows, device=device)
                for layer in cache.layers:
                    layer.keys, layer.values = layer.keys[keep], layer.values[keep]
                tokens, mask, position = tokens[keep], mask[keep], position[keep]
                warmth, nucleus = warmth[keep], nucleus[keep]
                alive = [alive[row] for row in rows]
            mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=1)
            out = self.model(
                input_ids=tokens[:, None],
                attention_mask=mask,
                position_ids=position[:, None],
                past_key_values=cache,
                use_cache=True,
            )
            position = position + 1
            logits = out.logits[:, -1]

    def _draw(
        self, logits: torch.Tensor, matchers: list[Any], warmth: torch.Tensor, nucleus: torch.Tensor
    ) -> torch.Tensor:
        guided = [(matcher, row) for row, matcher in enumerate(matchers) if matcher is not None]
        if guided:
            bits = llguidance.numpy.allocate_token_bitmask(len(matchers), self.vocabulary)
            llguidance.numpy.fill_next_token_bitmask_par(self.executor, guided, bits)
            allowed = torch.from_numpy(bits).to(logits.device)
            shifts = torch.arange(32, device=logits.device, dtype=torch.int32)
            open_ = ((allowed[:, :, None] >> shifts) & 1).flatten(1)[:, : logits.shape[1]].bool()
            logits = logits.masked_fill(~open_, float("-inf"))
        best, places = logits.float().topk(_LIKELIEST, dim=-1)
        shares = torch.softmax(best / warmth.clamp(min=1e-3)[:, None], dim=-1)
        before = shares.cumsum(-1) - shares
        shares = shares.masked_fill(before >= nucleus[:, None], 0.0)
        return places.gather(1, torch.multinomial(shares, 1)).squeeze(1)


def application(engine: Engine, name: str) -> web.Application:
    """The two routes that a client needs."""

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": name, "object": "model"}]})

    async def chat(request: web.Request) -> web.Response:
        body = await request.json()
        if body.get("stop"):
            return web.json_response({"error": {"message": "unsupported parameter: stop"}}, status=400)
        ids = engine.tokenizer.apply_chat_template(body["messages"], add_generation_prompt=True, return_dict=True)
        wanted = body.get("response_format") or {}
        grammar = None
        if wanted.get("type") == "json_schema":
            schema = {**wanted["json_schema"]["schema"], "x-guidance": _LAYOUT}
            grammar = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema))
            problem = llguidance.LLMatcher.validate_grammar(grammar, engine.guide)
            if problem and not problem.startswith("WARNING"):
                return web.json_response({"error": {"message": f"json_schema: {problem}"}}, status=400)
        job = Job(
            ids["input_ids"],
            int(body.get("max_tokens") or 512),
            float(body.get("temperature", 1.0)),
            float(body.get("top_p", 1.0)),
            grammar,
        )
        engine.waiting.put(job)
        tokens, ended = await asyncio.wrap_future(job.answer)
        message = {"role": "assistant", "content": engine.tokenizer.decode(tokens, skip_special_tokens=True)}
        return web.json_response(
            {
                "id": "chatcmpl",
                "object": "chat.completion",
                "model": name,
                "choices": [{"index": 0, "message": message, "finish_reason": "stop" if ended else "length"}],
                "usage": {"prompt_tokens": len(job.ids), "completion_tokens": len(tokens)},
            }
        )

    served = web.Application()
    served.add_routes([web.get("/v1/models", models), web.post("/v1/chat/completions", chat)])
    return served


def prepare(path: Path, folder: Path) -> None:
    """Write config.json and the tokenizer, as transformers reads them from the file."""
    AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name).save_pretrained(folder)
    config = AutoConfig.from_pretrained(str(path.parent), gguf_file=path.name)
    config.tie_word_embeddings = True
    config.save_pretrained(folder)


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gguf_endpoint", description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--prepare", action="store_true", help="write FOLDER and stop")
    parser.add_argument("--name", default="gguf", help="what the endpoint calls the model")
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--batch", type=int, default=512, help="requests answered together")
    parser.add_argument("--device", default="cuda")
    given = parser.parse_args(arguments)
    if given.prepare:
        prepare(given.model, given.tokenizer)
        return 0
    started = time.monotonic()
    model = load_model(given.model, given.tokenizer, given.device)
    engine = Engine(model, AutoTokenizer.from_pretrained(given.tokenizer), largest=given.batch)
    print(f"{given.model.name} ready on {given.device} after {time.monotonic() - started:.0f} s", flush=True)
    web.run_app(application(engine, given.name), port=given.port, print=None)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""An OpenAI-compatible endpoint over one GGUF model, where no vLLM or llama.cpp with CUDA is to be had.

    python -m benchmarks.gguf_endpoint MODEL.gguf --tokenizer FOLDER --port 8001

Weights are dequantised to bfloat16 once. Requests of one kind that wait are answered together, a batch at a time; what
their prompts share from the start (a document that is asked about four times) is read once, and rows that are finished
leave the batch. A JSON schema is followed token by token (llguidance). Needs `pip install gguf llguidance`.
Only the qwen2 architecture; its layers are written out here, which starts fewer kernels a step than transformers does.
FOLDER holds config.json and the tokenizer, as transformers reads them
from the same file: `python -m benchmarks.gguf_endpoint MODEL.gguf --tokenizer FOLDER --prepare`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import gguf
import llguidance
import llguidance.hf
import llguidance.numpy
import numpy as np
import torch
from aiohttp import web
from torch.nn import functional
from transformers import AutoConfig, AutoTokenizer

T = TypeVar("T")

_LIKELIEST: Final = 64
"""Nucleus sampling looks at this many tokens: sorting a vocabulary of 150,000 costs more than the layers."""
_PREFILL_TOKENS: Final = {"cuda": 65_536, "cpu": 2_048}
"""Prompts are read so many tokens at a time: few enough for a processor's caches, many enough to keep a GPU busy."""
_SHORTEST_STEM: Final = 48
"""Prompts that share fewer tokens from the start are read one by one."""
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


def dequantized(tensor: Any, device: str) -> torch.Tensor:
    """A GGUF tensor as bfloat16."""
    weights = np.array(gguf.dequantize(tensor.data, tensor.tensor_type))
    return torch.from_numpy(weights).to(device=device, dtype=torch.bfloat16)


class Decoder:
    """The layers of Qwen2, and nothing else.

    Args:
        path: the GGUF file. Embeddings and output share one matrix: the output's where there are two, which is finer.
        config: of the model.
        device: where the weights go.
    """

    def __init__(self, path: Path, config: Any, device: str) -> None:
        tensors = {each.name: each for each in gguf.GGUFReader(path).tensors}
        wanted = [name for name in tensors if name != "token_embd.weight" or "output.weight" not in tensors]
        with ThreadPoolExecutor(8) as pool:
            read = dict(zip(wanted, pool.map(lambda name: dequantized(tensors[name], device), wanted), strict=True))
        self.embeddings = read.get("output.weight", read.get("token_embd.weight"))
        self.norm = read["output_norm.weight"]
        self.layers = [
            {
                "attn_norm": read[f"blk.{layer}.attn_norm.weight"],
                "qkv": torch.cat([read[f"blk.{layer}.attn_{part}.weight"] for part in "qkv"]),
                "bias": torch.cat([read[f"blk.{layer}.attn_{part}.bias"] for part in "qkv"]),
                "out": read[f"blk.{layer}.attn_output.weight"],
                "ffn_norm": read[f"blk.{layer}.ffn_norm.weight"],
                "gate_up": torch.cat([read[f"blk.{layer}.ffn_{part}.weight"] for part in ("gate", "up")]),
                "down": read[f"blk.{layer}.ffn_down.weight"],
            }
            for layer in range(config.num_hidden_layers)
        ]
        self.heads, self.groups = config.num_attention_heads, config.num_key_value_heads
        self.width, self.size = config.hidden_size, config.hidden_size // config.num_attention_heads
        self.epsilon, self.vocabulary, self.device = config.rms_norm_eps, config.vocab_size, torch.device(device)
        frequencies = config.rope_parameters["rope_theta"] ** (-torch.arange(0, self.size, 2) / self.size)
        angles = torch.outer(torch.arange(8192), frequencies).repeat(1, 2).to(device)
        self.cosine, self.sine = angles.cos().bfloat16(), angles.sin().bfloat16()

    def cache(self, rows: int, length: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Room for keys and values of each layer, [rows, groups, length, size]."""
        shape = (rows, self.groups, length, self.size)
        pair = torch.zeros(2, len(self.layers), *shape, dtype=torch.bfloat16, device=self.device)
        return list(zip(pair[0], pair[1], strict=True))

    def __call__(
        self,
        tokens: torch.Tensor,
        lengths: torch.Tensor,
        cache: list[tuple[torch.Tensor, torch.Tensor]],
        upto: int,
        starts: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The next token's scores, [rows, vocabulary].

        Args:
            tokens: [rows, count]: whole texts, padded at their ends, the last token of each, or what follows `starts`.
            lengths: of the texts, these tokens included.
            cache: read, and written at the tokens' places, padding's included.
            upto: the longest text's length.
            starts: how many tokens of each text the cache holds: none of whole texts, all but a single token.
        """
        rows, count = tokens.shape
        whole = starts is None and count > 1
        if starts is None:
            starts = torch.zeros_like(lengths) if count > 1 else lengths - 1
        places = starts[:, None] + torch.arange(count, device=self.device)
        last = lengths - 1 - starts
        own = torch.arange(rows, device=self.device)[:, None]
        seen = None if whole else torch.arange(upto, device=self.device) <= places[:, None, :, None]
        cosine, sine = self.cosine[places][:, :, None], self.sine[places][:, :, None]

        def turned(part: torch.Tensor) -> torch.Tensor:
            left, right = part.chunk(2, dim=-1)
            return part * cosine + torch.cat((-right, left), dim=-1) * sine

        state = functional.embedding(tokens, self.embeddings)
        for weights, (keys, values) in zip(self.layers, cache, strict=True):
            normed = functional.rms_norm(state, (self.width,), weights["attn_norm"], self.epsilon)
            joined = functional.linear(normed, weights["qkv"], weights["bias"])
            joined = joined.view(rows, count, self.heads + 2 * self.groups, self.size)
            query, key, value = joined.split((self.heads, self.groups, self.groups), dim=2)
            query, key = turned(query), turned(key)
            keys[own, :, places], values[own, :, places] = key, value
            if whole:
                heads_first = (each.transpose(1, 2) for each in (query, key, value))
                mixed = functional.scaled_dot_product_attention(*heads_first, is_causal=True, enable_gqa=True)
                mixed = mixed.transpose(1, 2)
            else:
                past = keys[:, :, :upto], values[:, :, :upto]
                mixed = functional.scaled_dot_product_attention(
                    query.transpose(1, 2), *past, attn_mask=seen, enable_gqa=True
                ).transpose(1, 2)
            state = state + functional.linear(mixed.reshape(rows, count, -1), weights["out"])
            normed = functional.rms_norm(state, (self.width,), weights["ffn_norm"], self.epsilon)
            gate, up = functional.linear(normed, weights["gate_up"]).chunk(2, dim=-1)
            state = state + functional.linear(functional.silu(gate) * up, weights["down"])
        final = state[own[:, 0], last]
        return functional.linear(functional.rms_norm(final, (self.width,), self.norm, self.epsilon), self.embeddings)


@dataclass(frozen=True)
class Stem:
    """What several texts have in common from the start, or one text whole.

    Attributes:
        length: in tokens.
        rows: the texts' places.
    """

    length: int
    rows: tuple[int, ...]


def shared_stems(texts: list[list[int]], *, shortest: int = _SHORTEST_STEM) -> list[Stem]:
    """Group texts that begin alike; each of a group of several has at least a token of its own left."""
    order = sorted(range(len(texts)), key=lambda row: texts[row])
    groups: list[tuple[list[int], int]] = []
    for row in order:
        if groups:
            rows, length = groups[-1]
            head = texts[rows[0]]
            length = min(length, len(texts[row]) - 1, len(head) - 1)
            alike = next((place for place in range(length) if head[place] != texts[row][place]), length)
            # A document's questions share most of a prompt; two documents share its first lines alone.
            if alike >= max(shortest, len(texts[row]) // 2):
                groups[-1] = ([*rows, row], alike)
                continue
        groups.append(([row], len(texts[row])))
    return [Stem(length, tuple(rows)) for rows, length in groups]


def next_batch(asked: list[Job], largest: int) -> list[Job]:
    """The jobs to answer next: the one that waits longest, and those of its kind whose prompts are most like its own.

    A batch takes as long as its longest answer, so it is of one kind; prompts that begin alike are read together.
    """
    alike = [job for job in asked if job.grammar == asked[0].grammar][: 8 * largest]
    alike.sort(key=lambda job: job.ids)
    start = next(place for place, job in enumerate(alike) if job is asked[0])
    start = min(start - start % largest, max(0, len(alike) - largest))
    return alike[start : start + largest]


class Engine:
    """Answers jobs in batches, in a thread of its own."""

    def __init__(self, model: Decoder, tokenizer: Any, *, largest: int) -> None:
        self.model, self.tokenizer, self.largest = model, tokenizer, largest
        self.waiting: queue.Queue[Job] = queue.Queue()
        self.end = int(tokenizer.eos_token_id)
        self.guide = llguidance.hf.from_tokenizer(tokenizer, n_vocab=model.vocabulary)
        self.executor = llguidance.LLExecutor()
        self.tokens, self.seconds = 0, 0.0
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        asked: list[Job] = []
        while True:
            if not asked:
                asked.append(self.waiting.get())
            time.sleep(0.15)  # let those that were sent together arrive
            while not self.waiting.empty():
                asked.append(self.waiting.get())
            asked = [job for job in asked if not job.answer.cancelled()]
            if not asked:
                continue
            jobs = next_batch(asked, self.largest)
            taken = set(map(id, jobs))
            asked = [job for job in asked if id(job) not in taken]
            jobs = [job for job in jobs if job.answer.set_running_or_notify_cancel()]
            if not jobs:
                continue
            started = time.monotonic()
            try:
                self._answer(sorted(jobs, key=lambda job: len(job.ids)))
            except Exception as error:
                for job in jobs:
                    if not job.answer.done():
                        job.answer.set_exception(error)
            self.seconds += time.monotonic() - started
            print(
                f"{len(jobs)} answers in {time.monotonic() - started:.1f} s; {len(asked)} wait; "
                f"{self.tokens:,} tokens in {self.seconds:.0f} s",
                flush=True,
            )

    def _prefill(self, jobs: list[Job], room: int) -> tuple[torch.Tensor, torch.Tensor, Any]:
        """Read the prompts: what several share once, then the rest of each."""
        device, texts = self.model.device, [job.ids for job in jobs]
        stems = shared_stems(texts)
        lengths = torch.tensor([len(text) for text in texts], device=device)
        cache = self.model.cache(len(jobs), int(lengths.max()) + room)
        scores = torch.empty(len(jobs), self.model.vocabulary, dtype=torch.bfloat16, device=device)
        for part in self._parts(stems, lambda stem: stem.length):
            tokens = self._padded([texts[stem.rows[0]][: stem.length] for stem in part])
            read = self.model.cache(*tokens.shape)
            found = self.model(tokens, self._tensor([stem.length for stem in part]), read, tokens.shape[1])
            rows = self._tensor([row for stem in part for row in stem.rows])
            of = self._tensor([place for place, stem in enumerate(part) for _ in stem.rows])
            scores[rows] = found[of]
            for (keys, values), (new_keys, new_values) in zip(cache, read, strict=True):
                keys[rows, :, : tokens.shape[1]], values[rows, :, : tokens.shape[1]] = new_keys[of], new_values[of]
        ends = [(row, stem.length) for stem in stems if len(stem.rows) > 1 for row in stem.rows]
        for part in self._parts(ends, lambda end: len(texts[end[0]]) - end[1]):
            rows, starts = self._tensor([row for row, _ in part]), self._tensor([start for _, start in part])
            tokens = self._padded([texts[row][start:] for row, start in part])
            upto = int((starts + tokens.shape[1]).max())  # padding is written too
            read = self.model.cache(len(part), upto)
            kept = min(upto, cache[0][0].shape[2])
            for (keys, values), (new_keys, new_values) in zip(cache, read, strict=True):
                new_keys[:, :, :kept], new_values[:, :, :kept] = keys[rows, :, :kept], values[rows, :, :kept]
            scores[rows] = self.model(tokens, lengths[rows], read, upto, starts)
            for (keys, values), (new_keys, new_values) in zip(cache, read, strict=True):
                keys[rows, :, :kept], values[rows, :, :kept] = new_keys[:, :, :kept], new_values[:, :, :kept]
        return scores, lengths, cache

    def _tensor(self, numbers: list[int]) -> torch.Tensor:
        return torch.tensor(numbers, device=self.model.device)

    def _padded(self, texts: list[list[int]]) -> torch.Tensor:
        longest = max(map(len, texts))
        return torch.tensor([text + [0] * (longest - len(text)) for text in texts], device=self.model.device)

    def _parts(self, asked: list[T], length: Callable[[T], int]) -> Iterator[list[T]]:
        """What is read at once, the shortest first: texts of about one length waste little on padding."""
        part: list[T] = []
        for each in sorted(asked, key=length):
            if part and (len(part) + 1) * length(each) > _PREFILL_TOKENS[self.model.device.type]:
                yield part
                part = []
            part.append(each)
        if part:
            yield part

    @torch.inference_mode()
    def _answer(self, jobs: list[Job]) -> None:
        device = self.model.device
        scores, lengths, cache = self._prefill(jobs, max(job.limit for job in jobs))
        upto = max(len(job.ids) for job in jobs)
        matchers = [
            llguidance.LLMatcher(self.guide, job.grammar, log_level=0) if job.grammar else None for job in jobs
        ]
        written: list[list[int]] = [[] for _ in jobs]
        alive = list(range(len(jobs)))  # the job of each row of the batch
        finished: set[int] = set()
        warmth = torch.tensor([job.temperature for job in jobs], device=device)
        nucleus = torch.tensor([job.top_p for job in jobs], device=device)
        while True:
            tokens = self._draw(scores, [matchers[job] for job in alive], warmth, nucleus)
            listed = tokens.tolist()
            guided = [(matchers[job], listed[row]) for row, job in enumerate(alive) if matchers[job] is not None]
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
                cache = [(keys[keep], values[keep]) for keys, values in cache]
                tokens, lengths, warmth, nucleus = tokens[keep], lengths[keep], warmth[keep], nucleus[keep]
                alive = [alive[row] for row in rows]
            lengths, upto = lengths + 1, upto + 1
            scores = self.model(tokens[:, None], lengths, cache, upto)

    def _draw(
        self, logits: torch.Tensor, matchers: list[Any], warmth: torch.Tensor, nucleus: torch.Tensor
    ) -> torch.Tensor:
        guided = [(matcher, row) for row, matcher in enumerate(matchers) if matcher is not None]
        if guided:
            bits = llguidance.numpy.allocate_token_bitmask(len(matchers), self.model.vocabulary)
            llguidance.numpy.fill_next_token_bitmask_par(self.executor, guided, bits)
            allowed = torch.from_numpy(bits).to(logits.device)
            shifts = torch.arange(32, device=logits.device, dtype=torch.int32)
            open_ = ((allowed[:, :, None] >> shifts) & 1).flatten(1)[:, : logits.shape[1]].bool()
            logits = logits.masked_fill(~open_, float("-inf"))
        best, places = logits.float().topk(_LIKELIEST, dim=-1)
        shares = torch.softmax(best / warmth.clamp(min=1e-3)[:, None], dim=-1)
        before = shares.cumsum(-1) - shares
        shares = shares.masked_fill(before >= nucleus[:, None], 0.0).nan_to_num(0.0)
        shares[:, 0] = shares[:, 0].clamp(min=1e-9)  # a row with nothing allowed must not stop the others
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
    AutoConfig.from_pretrained(str(path.parent), gguf_file=path.name).save_pretrained(folder)


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
    model = Decoder(given.model, AutoConfig.from_pretrained(given.tokenizer), given.device)
    engine = Engine(model, AutoTokenizer.from_pretrained(given.tokenizer), largest=given.batch)
    print(f"{given.model.name} ready on {given.device} after {time.monotonic() - started:.0f} s", flush=True)
    # Whoever hangs up is not answered: a client that was stopped must not keep the next one waiting.
    served = application(engine, given.name)
    web.run_app(served, port=given.port, print=None, reuse_port=True, handler_cancellation=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

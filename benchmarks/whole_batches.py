"""A language model in this process that answers, all together, the requests that wait: vLLM, transformers or a GGUF.

Nothing to run by itself: `python -m benchmarks.gpu OUT --only writer --writer MODEL` measures such a writer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from multigrain.llm.protocol import Completion, CompletionRequest

__all__ = ["WholeBatches", "open_writer"]

Answer = tuple[str, int, bool]
"""A request's answer: text, its tokens, and whether it came to its own end."""


class WholeBatches:
    """A client of a function that answers several requests at once.

    Args:
        name: the model's.
        answer: given requests, their answers in the same order; called in a thread, one call at a time.
        largest: requests a call.
    """

    def __init__(
        self, name: str, answer: Callable[[Sequence[CompletionRequest]], list[Answer]], *, largest: int
    ) -> None:
        self.identity = name
        self._answer, self._largest = answer, largest
        self._waiting: list[tuple[CompletionRequest, asyncio.Future[Answer]]] = []
        self._task: asyncio.Task[None] | None = None

    async def complete(self, request: CompletionRequest) -> Completion:
        """Answer one request, with those that are sent at about the same time."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())
        text, tokens, ended = await future
        return Completion(text, "stop" if ended else "length", self.identity, completion_tokens=tokens)

    async def aclose(self) -> None:
        """Nothing is open."""

    async def _work(self) -> None:
        while self._waiting:
            await asyncio.sleep(0.02)  # let those that are sent together arrive
            taken, self._waiting = self._waiting[: self._largest], self._waiting[self._largest :]
            try:
                answers = await asyncio.to_thread(self._answer, [request for request, _ in taken])
            except Exception as error:
                for _, future in taken:
                    future.set_exception(error)
                continue
            for (_, future), answer in zip(taken, answers, strict=True):
                future.set_result(answer)


def open_writer(model: Path, *, device: str, folder: Path, largest: int) -> tuple[str, WholeBatches]:
    """What computes a writer, and its client: vLLM where it is installed, else transformers; gguf_endpoint for a GGUF.

    Args:
        model: a folder as transformers saves it, or a GGUF file of the architecture qwen2.
        device: where transformers and the engine compute.
        folder: where the tokenizer of a GGUF is written.
        largest: requests that are answered together.
    """
    if model.suffix == ".gguf":
        return "gguf-endpoint", WholeBatches(model.name, _engine(model, device, folder, largest), largest=largest)
    if device == "cuda" and find_spec("vllm") is not None:
        return "vllm", WholeBatches(model.name, _vllm(model), largest=largest)
    return "transformers", WholeBatches(model.name, _transformers(model, device), largest=largest)


def _chat(request: CompletionRequest) -> list[dict[str, str]]:
    return [{"role": each.role, "content": each.content} for each in request.messages]


def _prompt(tokenizer: Any, request: CompletionRequest) -> str:
    """The text that a model goes on from; a base model without a chat template reads the messages as they are."""
    if tokenizer.chat_template is None:
        return "\n\n".join(each.content for each in request.messages) + "\n\n"
    ends = {"continue_final_message": True} if request.prefill else {"add_generation_prompt": True}
    return str(tokenizer.apply_chat_template(_chat(request), tokenize=False, **ends))


def _vllm(model: Path) -> Callable[[Sequence[CompletionRequest]], list[Answer]]:
    import vllm

    llm = vllm.LLM(str(model), dtype="bfloat16", max_model_len=4096)
    tokenizer = llm.get_tokenizer()

    def answer(requests: Sequence[CompletionRequest]) -> list[Answer]:
        sampling = [
            vllm.SamplingParams(
                temperature=each.temperature,
                top_p=each.top_p,
                max_tokens=each.max_tokens,
                seed=each.seed,
                stop=list(each.stop),
            )
            for each in requests
        ]
        prompts = [tokenizer.encode(_prompt(tokenizer, each), add_special_tokens=False) for each in requests]
        found = llm.generate([{"prompt_token_ids": each} for each in prompts], sampling, use_tqdm=False)
        first = [each.outputs[0] for each in found]
        return [(each.text, len(each.token_ids), each.finish_reason == "stop") for each in first]

    return answer


def _transformers(model: Path, device: str) -> Callable[[Sequence[CompletionRequest]], list[Answer]]:
    tokenizer = AutoTokenizer.from_pretrained(str(model), padding_side="left")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    loaded = AutoModelForCausalLM.from_pretrained(str(model), dtype=dtype).to(device).eval()
    ends = {tokenizer.eos_token_id, loaded.generation_config.eos_token_id}

    def answer(requests: Sequence[CompletionRequest]) -> list[Answer]:
        first = requests[0]
        texts = [_prompt(tokenizer, each) for each in requests]
        features = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False).to(device)
        torch.manual_seed(first.seed)
        sampling = {"temperature": first.temperature, "top_p": first.top_p} if first.temperature else {}
        with torch.inference_mode():
            written = loaded.generate(
                input_ids=features["input_ids"],
                attention_mask=features["attention_mask"],
                max_new_tokens=max(each.max_tokens for each in requests),
                do_sample=bool(sampling),
                pad_token_id=tokenizer.pad_token_id,
                **sampling,
            )[:, features["input_ids"].shape[1] :].tolist()
        return [_cut(tokenizer, tokens, each, ends) for tokens, each in zip(written, requests, strict=True)]

    return answer


def _cut(tokenizer: Any, tokens: list[int], request: CompletionRequest, ends: set[int | None]) -> Answer:
    """One row of a batch, up to its own end, its limit, or a text that it was to stop at."""
    length = next((place for place, token in enumerate(tokens) if token in ends), len(tokens))
    kept = tokens[: min(length, request.max_tokens)]
    text = tokenizer.decode(kept, skip_special_tokens=True)
    stops = [text.index(stop) for stop in request.stop if stop in text]
    return text[: min(stops, default=len(text))], len(kept), bool(stops) or len(kept) == length < len(tokens)


def _engine(
    model: Path, device: str, folder: Path, largest: int
) -> Callable[[Sequence[CompletionRequest]], list[Answer]]:
    from transformers import AutoConfig

    from benchmarks import gguf_endpoint

    if not (folder / "config.json").exists():
        gguf_endpoint.prepare(model, folder)
    decoder = gguf_endpoint.Decoder(model, AutoConfig.from_pretrained(folder), device)
    engine = gguf_endpoint.Engine(decoder, AutoTokenizer.from_pretrained(folder), largest=largest)

    def answer(requests: Sequence[CompletionRequest]) -> list[Answer]:
        jobs = []
        for each in requests:
            ids = engine.tokenizer(_prompt(engine.tokenizer, each), add_special_tokens=False)["input_ids"]
            jobs.append(gguf_endpoint.Job(ids, each.max_tokens, each.temperature, each.top_p, None))
        for job in jobs:
            engine.waiting.put(job)
        answers = []
        for job, each in zip(jobs, requests, strict=True):
            tokens, ended = job.answer.result()
            text = engine.tokenizer.decode(tokens, skip_special_tokens=True)
            stops = [text.index(stop) for stop in each.stop if stop in text]
            answers.append((text[: min(stops, default=len(text))], len(tokens), ended or bool(stops)))
        return answers

    return answer

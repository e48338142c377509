"""The commented config that `multigrain init` writes: settings, their defaults and their descriptions."""

from __future__ import annotations

import json
import textwrap
from typing import Any

import yaml
from pydantic import BaseModel

from multigrain.config import Config
from multigrain.config.writers import KnownWriter

_WIDTH = 100
# What a person should look at first stands uncommented; the rest shows its default, commented out.
_STARTERS: dict[str, dict[str, Any]] = {
    "local": {
        "llm": {"provider": "local", "model": "auto"},
        "synthesis": {"strategy": "stepwise", "query_types": {"summary": 1.0}, "negatives_share": 0.1},
    },
    "openai": {
        "llm": {"provider": "openai", "model": "gpt-4o-mini", "base_url": "https://api.openai.com/v1"},
        "synthesis": {"strategy": "mgh"},
    },
}
# What most people look at before their first run; `multigrain init --full` and the reference have the rest.
_FIRST: dict[str, tuple[str, ...]] = {
    "documents": ("path", "text_field", "title_field", "chunk_size"),
    "llm": ("provider", "model", "base_url", "api_key_env", "temperature", "concurrency", "prices"),
    "synthesis": (
        "strategy",
        "query_types",
        "languages",
        "document_characters",
        "queries_per_document",
        "negatives_share",
        "max_documents",
        "max_cost",
    ),
    "audit": ("round_trip_rank", "negatives", "false_negative_margin"),
    "training": (
        "base_model",
        "pooling",
        "schedule",
        "steps",
        "batch_size",
        "learning_rate",
        "max_seq_length",
    ),
    "evaluation": ("queries", "sets"),
}
_FULL_HEAD = "# multigrain config. Lines that start with `# ` and a key show the default; uncomment to change."
_FIRST_HEAD = (
    "# multigrain config: what to look at first. Lines that start with `# ` and a key show the default; uncomment to",
    "# change. `multigrain init --full` writes every setting; docs/reference/config.md lists them.",
)


def config_template(
    *,
    documents: str,
    provider: str,
    model: str | None = None,
    base_url: str | None = None,
    base_model: str = "auto",
    full: bool = False,
    writer: KnownWriter | None = None,
) -> str:
    """A config file's text.

    Args:
        documents: the documents' path.
        provider: "local" or "openai".
        model: the language model; None for the provider's usual one.
        base_url: the endpoint; None for the provider's usual one.
        base_model: what is tuned.
        full: every setting, and not only those to look at first.
        writer: the local model, where it is known what it writes best.
    """
    chosen: dict[str, dict[str, Any]] = {
        "documents": {"path": documents},
        "training": {"base_model": base_model, "pooling": "keep", "schedule": "coarse-to-fine", "steps": "auto"},
        **_STARTERS[provider],
    }
    if writer is not None:
        for section, values in writer.settings().items():
            chosen[section] = {**chosen[section], **values}
    overrides = {"model": model, "base_url": base_url}
    chosen["llm"] = {**chosen["llm"], **{key: value for key, value in overrides.items() if value is not None}}
    defaults = Config()
    parts = [
        *([_FULL_HEAD] if full else _FIRST_HEAD),
        "",
        *_field(Config, "seed", defaults.seed, chosen=True, indent=""),
    ]
    for name, field in Config.model_fields.items():
        section = getattr(defaults, name)
        if isinstance(section, BaseModel) and (full or name in _FIRST):
            parts += ["", f"# {(type(section).__doc__ or field.description or '').strip()}", f"{name}:"]
            for key in type(section).model_fields:
                picked = chosen.get(name, {})
                if not full and key not in picked and key not in _FIRST[name]:
                    continue
                value = picked.get(key, getattr(section, key))
                parts += _field(type(section), key, value, chosen=key in picked, indent="  ")
    return "\n".join(parts) + "\n"


def _field(section: type[BaseModel], key: str, value: Any, *, chosen: bool, indent: str) -> list[str]:
    words = " ".join((section.model_fields[key].description or "").split())
    comment = [f"{indent}# {line}" for line in textwrap.wrap(words, _WIDTH)]
    plain = section.model_construct(**{key: value}).model_dump(mode="json", include={key}).get(key, value)
    shown = yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True)
    value_text = shown.removesuffix("...\n").rstrip()
    if "\n" in value_text:
        value_text = json.dumps(plain, ensure_ascii=False)  # YAML too, and on one line
    mark = "" if chosen else "# "
    return [*comment, f"{indent}{mark}{key}: {value_text}"]

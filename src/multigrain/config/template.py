"""The config that `multigrain init` writes: the few settings to decide, or every setting with its description."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import BaseModel

from multigrain.config import Config
from multigrain.config.writers import KnownWriter

_WIDTH = 100
_STARTERS: dict[str, dict[str, Any]] = {
    "local": {
        "llm": {"provider": "local", "model": "auto"},
        "synthesis": {"strategy": "stepwise", "query_types": {"summary": 1.0}, "negatives_share": 0.1},
    },
    "openai": {
        "llm": {
            "provider": "openai",
            "model": "gpt-4o-mini",
            "base_url": "https://api.openai.com/v1",
            "api_key_env": "OPENAI_API_KEY",
        },
        "synthesis": {"strategy": "mgh"},
    },
}
_FIRST_CHOICES: dict[str, dict[str, Any]] = {
    "training": {"pooling": "keep", "schedule": "coarse-to-fine", "steps": "auto"},
}
_FULL_HEAD = "# multigrain config. Lines that start with `# ` and a key show the default; uncomment to change."
_SHORT_HEAD = (
    "# What you have to decide. Every other setting has a default: `multigrain init --full` writes them all.",
    "# `multigrain plan {name}` estimates time and cost; `multigrain run {name}` starts.",
)
_START_REASON = "You have queries with their answers. documents: queries are written for texts instead."
_REASONS: dict[str, str] = {
    "documents.path": "A folder of text or Markdown files, or one .jsonl, .csv, .tsv or .parquet file.",
    "documents.chunk_size": "Words a chunk: longer documents are cut, because models read only the start of a text.",
    "llm.provider": "Who writes the queries. local: a model in this process. openai: any endpoint that speaks /v1.",
    "llm.model": "Which language model writes. A larger one writes better queries.",
    "llm.base_url": "The endpoint's address. It nearly always ends in /v1.",
    "llm.api_key_env": "The environment variable that holds the key. Never write the key itself here.",
    "llm.temperature": "The value that was measured to suit this model.",
    "llm.concurrency": "How many requests run at once. More is faster until memory or the endpoint says stop.",
    "synthesis.strategy": "How rows are written. stepwise suits tiny models, mgh larger ones.",
    "synthesis.query_types": "What your users type, with weights: search, keywords, question, summary, claim, …",
    "synthesis.languages": "The language your users write in.",
    "synthesis.document_characters": "Measured for this model: how much of a document it can make use of.",
    "synthesis.negatives_share": "The share of rows with written negatives; the rest are found in your documents.",
    "training.base_model": "The embedding model to tune. auto: all-MiniLM-L6-v2, small and English.",
    "training.max_seq_length": "Tokens read from each text while training. Shorter is faster.",
}
"""Why each setting of a short config stands there: one line each."""


def chosen_settings(
    *,
    documents: str | None,
    provider: str,
    model: str | None = None,
    base_url: str | None = None,
    base_model: str = "auto",
    writer: KnownWriter | None = None,
    more: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, dict[str, Any]]:
    """What a new config sets, by section.

    Args:
        documents: the documents' path; None where pairs are what a run starts from.
        provider: "local" or "openai".
        model: the language model; None for the provider's usual one.
        base_url: the endpoint; None for the provider's usual one.
        base_model: what is tuned.
        writer: the local model, where it is known what it writes best.
        more: settings that go before all of these.
    """
    overrides = {"model": model, "base_url": base_url}
    chosen: dict[str, dict[str, Any]] = {} if documents is None else {"documents": {"path": documents}}
    layers: tuple[Mapping[str, Mapping[str, Any]], ...] = (
        _STARTERS[provider],
        {} if writer is None else writer.settings(),
        {"llm": {key: value for key, value in overrides.items() if value is not None}},
        {"training": {"base_model": base_model}},
        more or {},
    )
    for layer in layers:
        for section, values in layer.items():
            chosen[section] = {**chosen.get(section, {}), **values}
    return chosen


def short_template(
    chosen: Mapping[str, Mapping[str, Any]], *, name: str = "config.yaml", reasons: Mapping[str, str] | None = None
) -> str:
    """The text of a config with chosen settings alone, each under one line that says why it is there.

    Args:
        chosen: see `chosen_settings`.
        name: of the file, for the commands in its head.
        reasons: by "SECTION.KEY"; they go before the usual ones.
    """
    why = {**_REASONS, **(reasons or {})}
    lines = [line.format(name=name) for line in _SHORT_HEAD]
    if "pairs" in chosen:
        lines += ["", f"# {_START_REASON}", "start_from: pairs"]
    defaults = Config()
    for section in (key for key in Config.model_fields if key in chosen):
        lines += ["", f"{section}:"]
        kind = type(getattr(defaults, section))
        for key in (key for key in kind.model_fields if key in chosen[section]):
            # A setting without a reason of its own belongs to the one above it.
            lines += [f"  # {reason}" for reason in (why.get(f"{section}.{key}"),) if reason]
            lines.append(_line(kind, key, chosen[section][key], indent="  "))
    return "\n".join(lines) + "\n"


def full_template(chosen: Mapping[str, Mapping[str, Any]]) -> str:
    """The text of a config with every setting and its description; those that are not chosen are commented out.

    Args:
        chosen: see `chosen_settings`.
    """
    starts = "pairs" if "pairs" in chosen else "documents"
    chosen = {
        section: {**_FIRST_CHOICES.get(section, {}), **chosen.get(section, {})} for section in Config.model_fields
    }
    defaults = Config()
    parts = [_FULL_HEAD, "", *_field(Config, "seed", defaults.seed, chosen=True, indent="")]
    parts += ["", *_field(Config, "start_from", starts, chosen=starts == "pairs", indent="")]
    for name, field in Config.model_fields.items():
        section = getattr(defaults, name)
        if isinstance(section, BaseModel):
            parts += ["", f"# {(type(section).__doc__ or field.description or '').strip()}", f"{name}:"]
            for key in type(section).model_fields:
                value = chosen[name].get(key, getattr(section, key))
                parts += _field(type(section), key, value, chosen=key in chosen[name], indent="  ")
    return "\n".join(parts) + "\n"


def _field(section: type[BaseModel], key: str, value: Any, *, chosen: bool, indent: str) -> list[str]:
    words = " ".join((section.model_fields[key].description or "").split())
    comment = [f"{indent}# {line}" for line in textwrap.wrap(words, _WIDTH)]
    return [*comment, _line(section, key, value, indent=indent if chosen else f"{indent}# ")]


def _line(section: type[BaseModel], key: str, value: Any, *, indent: str) -> str:
    """A setting on one line of YAML; of a list of sections, one line each."""
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return "\n".join([f"{indent}{key}:", *(f"{indent}  - {_flow(item)}" for item in value)])
    plain = section.model_construct(**{key: value}).model_dump(mode="json", include={key}).get(key, value)
    return f"{indent}{key}: {_flow(plain)}"


def _flow(plain: Any) -> str:
    shown = yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True)
    text = shown.removesuffix("...\n").rstrip()
    return json.dumps(plain, ensure_ascii=False) if "\n" in text else text  # YAML too, and on one line

"""The commented config that `multigrain init` writes: every setting with its default and its field's own words."""

from __future__ import annotations

import json
import textwrap
from typing import Any

import yaml
from pydantic import BaseModel

from multigrain.config import Config

__all__ = ["config_template"]

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


def config_template(
    *,
    documents: str,
    provider: str,
    model: str | None = None,
    base_url: str | None = None,
    base_model: str = "auto",
) -> str:
    """A config file's text.

    Args:
        documents: the documents' path.
        provider: "local" or "openai".
        model: the language model; None for the provider's usual one.
        base_url: the endpoint; None for the provider's usual one.
        base_model: what is tuned.
    """
    chosen: dict[str, dict[str, Any]] = {
        "documents": {"path": documents},
        "training": {"base_model": base_model, "pooling": "keep", "schedule": "coarse-to-fine", "steps": "auto"},
        **_STARTERS[provider],
    }
    given = {"model": model, "base_url": base_url}
    chosen["llm"] = {**chosen["llm"], **{key: value for key, value in given.items() if value is not None}}
    defaults = Config()
    parts = [
        "# multigrain config. Lines that start with `# ` and a key show the default; uncomment to change.",
        "",
        *_field(Config, "seed", defaults.seed, chosen=True, indent=""),
    ]
    for name, field in Config.model_fields.items():
        section = getattr(defaults, name)
        if isinstance(section, BaseModel):
            parts += ["", f"# {(type(section).__doc__ or field.description or '').strip()}", f"{name}:"]
            for key in type(section).model_fields:
                picked = chosen.get(name, {})
                value = picked.get(key, getattr(section, key))
                parts += _field(type(section), key, value, chosen=key in picked, indent="  ")
    return "\n".join(parts) + "\n"


def _field(section: type[BaseModel], key: str, value: Any, *, chosen: bool, indent: str) -> list[str]:
    words = " ".join((section.model_fields[key].description or "").split())
    comment = [f"{indent}# {line}" for line in textwrap.wrap(words, _WIDTH)]
    plain = section.model_construct(**{key: value}).model_dump(mode="json", include={key})[key]
    shown = yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True)
    value_text = shown.removesuffix("...\n").rstrip()
    if "\n" in value_text:
        value_text = json.dumps(plain, ensure_ascii=False)  # YAML too, and on one line
    mark = "" if chosen else "# "
    return [*comment, f"{indent}{mark}{key}: {value_text}"]

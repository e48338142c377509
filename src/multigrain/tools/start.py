"""The config that `multigrain init` writes, from options, answers and defaults."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import yaml

from multigrain.config.file import parse_config
from multigrain.config.paths import ConfigFolder
from multigrain.config.queries import UserQueries, query_types
from multigrain.config.synthesis import QueryType
from multigrain.config.template import chosen_settings, full_template, short_template
from multigrain.config.writers import KnownWriter, known_writer
from multigrain.errors import ConfigError, MissingExtraError, ModelError, MultigrainError
from multigrain.recipes import recipe_needs, recipe_summary, recipe_text
from multigrain.sources.source import look_at_input
from multigrain.storage.packages import resolve_gguf
from multigrain.tools.first_look import look_at_first_documents
from multigrain.tools.labelled_input import LabelledInput, look_for_labels

OPENAI_URL: Final = "https://api.openai.com/v1"
OLLAMA_URL: Final = "http://localhost:11434/v1"
OLLAMA_MODEL: Final = "qwen2.5:7b"


@dataclass(frozen=True)
class Start:
    """The choices behind a new config; None for a default.

    Attributes:
        documents: path of the documents.
        recipe: name of a recipe.
        provider: "local", "openai", or "ollama" for the endpoint that it is; see `for_ollama`.
        base_url: the endpoint.
        model: the language model.
        base_model: the model that is tuned.
        full: write every setting, and not only those that have to be decided.
        queries: what users type.
    """

    documents: str | None = None
    recipe: str | None = None
    provider: str | None = None
    base_url: str | None = None
    model: str | None = None
    base_model: str | None = None
    full: bool = False
    queries: tuple[UserQueries, ...] = ()

    def for_ollama(self) -> Start:
        """The same choices with Ollama replaced by its endpoint on this machine."""
        if self.provider != "ollama":
            return self
        return replace(self, provider="openai", base_url=self.base_url or OLLAMA_URL, model=self.model or OLLAMA_MODEL)

    @property
    def wants_endpoint(self) -> bool:
        """Whether an endpoint was asked for, in so many words or by its address."""
        return self.provider == "openai" or (self.provider is None and self.base_url is not None)


@dataclass(frozen=True, slots=True)
class StartText:
    """A new config.

    Attributes:
        text: of the file.
        notes: what somebody should know about it.
    """

    text: str
    notes: tuple[str, ...] = ()


def start_text(start: Start, *, path: Path = Path("config.yaml")) -> StartText:
    """The config's text.

    Args:
        start: what was chosen.
        path: of the file that it is for; documents are looked for beside it.

    Raises:
        ConfigError: choices that do not go together, or values that no config may have.
        SourceError: labelled queries that cannot be read.
    """
    made = _template(start, path) if start.recipe is None else StartText(_recipe(start, start.recipe))
    parse_config(yaml.safe_load(made.text), origin="these choices")
    return made


def documents_error(start: Start, *, path: Path) -> MultigrainError | None:
    """Why a run could not use the documents that were chosen; None where it could.

    Args:
        start: what was chosen.
        path: of the config file that it is for; documents are looked for beside it.

    Raises:
        ConfigError: see `start_text`.
        SourceError: see `start_text`.
    """
    here = ConfigFolder(path.resolve().parent, frozenset())
    values = yaml.safe_load(start_text(start, path=path).text)
    return look_at_input(parse_config(values, origin="these choices", context=here)).error


def recipe_line(name: str) -> str:
    """A recipe's line in a list: what it is for, and what it needs."""
    needs = recipe_needs(name)
    return f"{name:<18}{recipe_summary(name)}{f' [needs {needs}]' if needs else ''}"


def recipe_values(name: str) -> dict[str, Any]:
    """What a recipe sets, as plain values.

    Raises:
        ConfigError: there is no such recipe.
    """
    values: dict[str, Any] = yaml.safe_load(recipe_text(name))
    return values


def _template(start: Start, path: Path) -> StartText:
    if start.provider == "local" and start.base_url is not None:
        raise ConfigError("--base-url is for an endpoint: leave it out, or use --provider openai")
    documents, base_model = start.documents or "documents", start.base_model or "auto"
    writer = None if start.wants_endpoint else _writer(start.model or "auto")
    here = ConfigFolder(path.resolve().parent, frozenset())
    named = parse_config({"documents": {"path": documents}}, origin="these choices", context=here).documents
    labels = None if named.path is None else look_for_labels(named.path, shown=documents, base_model=base_model)
    if labels is not None and labels.trains:
        return _from_pairs(start, path, labels, base_model)
    first_look = labels or look_at_first_documents(named, base_model=base_model)
    settings, reasons = {**first_look.settings}, {**first_look.reasons}
    kinds, notes = _query_types(start.queries, writer)
    if kinds:
        settings["synthesis"] = {**settings.get("synthesis", {}), "query_types": kinds}
    if writer is not None and (notes or not start.queries):
        reasons["synthesis.query_types"] = f"What {writer.name} writes well. A larger model writes questions, too."
    chosen = chosen_settings(
        documents=documents,
        provider="openai" if start.wants_endpoint else "local",
        model=start.model,
        base_url=start.base_url,
        base_model=base_model,
        writer=writer,
        more=settings,
    )
    short = short_template(chosen, name=str(path), reasons=reasons)
    return StartText(full_template(chosen) if start.full else short, (*first_look.notes, *notes))


def _from_pairs(start: Start, path: Path, labels: LabelledInput, base_model: str) -> StartText:
    """A config that starts from given queries. Negatives are mined, or an endpoint that is named writes them."""
    settings, reasons, notes = {**labels.settings}, {**labels.reasons}, labels.notes
    if start.wants_endpoint:
        chosen = chosen_settings(
            documents=None,
            provider="openai",
            model=start.model,
            base_url=start.base_url,
            base_model=base_model,
            more=settings,
        )
    else:
        settings["synthesis"] = {"strategy": "mined-bands"}
        reasons["synthesis.strategy"] = (
            "Hard negatives are found among your documents. mgh: a language model writes them."
        )
        chosen = {**settings, "training": {"base_model": base_model, **settings.get("training", {})}}
    if start.queries:
        notes = (*notes, "--queries is for queries that are written, and yours are given")
    short = short_template(chosen, name=str(path), reasons=reasons)
    return StartText(full_template(chosen) if start.full else short, notes)


def _query_types(
    answers: tuple[UserQueries, ...], writer: KnownWriter | None
) -> tuple[dict[QueryType, float], tuple[str, ...]]:
    """The kinds of queries to write, without those that the writer is known to fail at; and what to say of these."""
    if not answers:
        if writer is None or not writer.fails_at:
            return {}, ()
        return {}, (
            f"{writer.name} writes {', '.join(writer.query_types)} queries and none of kind "
            f"{', '.join(sorted(writer.fails_at))}; if your users type those, take a larger model (--model, or "
            "--provider openai)",
        )
    kinds = query_types(answers)
    beyond = kinds.keys() & writer.fails_at if writer is not None else set()
    if writer is None or not beyond:
        return kinds, ()
    left = {kind: weight for kind, weight in kinds.items() if kind not in beyond}
    note = (
        f"{writer.name} cannot write queries of kind {', '.join(sorted(beyond))}, so the config asks for "
        f"{', '.join(left or writer.query_types)} instead; a larger model writes what your users type (--model, or "
        "--provider openai)"
    )
    return left or dict(writer.query_types), (note,)


def _writer(reference: str) -> KnownWriter | None:
    """The embedded model, where it is a known one."""
    try:
        return known_writer(str(resolve_gguf(reference)))
    except (MissingExtraError, ModelError):
        return known_writer(reference)


def _recipe(start: Start, name: str) -> str:
    values, text = recipe_values(name), recipe_text(name)
    own = values.get("llm", {}).get("provider", "local")
    if start.provider not in (None, own) or (own == "local" and start.base_url is not None):
        raise ConfigError(f"recipe {name!r} has llm.provider {own}: leave --provider and --base-url out, or --recipe")
    if start.full:
        raise ConfigError(f"recipe {name!r} is written as it is: leave --full out, or --recipe")
    if start.queries:
        raise ConfigError(f"recipe {name!r} has query kinds of its own: leave --queries out, or --recipe")
    if start.documents is not None and "path" not in values.get("documents", {}):
        raise ConfigError(f"recipe {name!r} brings its own documents: leave --documents out")
    replacements = {
        ("documents", "path"): start.documents,
        ("llm", "base_url"): start.base_url,
        ("llm", "model"): start.model,
        ("training", "base_model"): start.base_model,
    }
    return _with_values(text, {place: value for place, value in replacements.items() if value is not None})


def _with_values(text: str, replacements: Mapping[tuple[str, str], str]) -> str:
    """A config's text with other values on lines that it has, every comment kept."""
    lines, section, missing = text.splitlines(), "", dict(replacements)
    for number, line in enumerate(lines):
        if match := re.match(r"(\w+):", line):
            section = match[1]
        elif (match := re.match(r"  (\w+):\s*(?:\"[^\"]*\"|[^\s#]+)(.*)", line)) and (section, match[1]) in missing:
            value = missing.pop((section, match[1]))
            lines[number] = f"  {match[1]}: {json.dumps(value, ensure_ascii=False)}{match[2]}"
    if missing:
        raise ConfigError(f"this recipe has no {', '.join(map('.'.join, missing))} that could be changed")
    return "\n".join(lines) + "\n"

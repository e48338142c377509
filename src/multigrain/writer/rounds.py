"""Rounds of a writer: tune, write, audit, and again, until what is accepted on validation documents stops rising.

    RUN/writer/NAME/
      settings.json          what was asked for, and of which data
      base/                  the weights that tuning starts from
      round-0/               the untuned model as GGUF; journal.sqlite: what it answers; round.json
      round-1/ …             rows.jsonl, checkpoints/ while it is tuned, weights/, the GGUF file, journal.sqlite,
                             round.json
      config.yaml            the run's config with the best round's file as its writer
      writer.json            the summary

`round.json` is written last: a round that has one is complete, and is not done again. Validation documents are some of
the run's training documents, kept out of all rounds' rows; documents that the run holds out are never shown.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from multigrain.config import Config, LLMConfig, fingerprint
from multigrain.display.progress import Progress, SilentProgress
from multigrain.errors import RunMismatchError, SourceError
from multigrain.records import Document
from multigrain.storage.files import atomic_directory, atomic_write, remove
from multigrain.storage.rundir import RunDirectory
from multigrain.synthesis.inputs import read_inputs, training_units
from multigrain.synthesis.strategies.protocol import WritingUnit, seeded_place
from multigrain.writer.base import default_base, load_writer, save_writer
from multigrain.writer.draws import Draw, Measure, draw_rows, open_measure
from multigrain.writer.grading import GradedCompletion
from multigrain.writer.run_data import open_audited, run_completions
from multigrain.writer.training import TuneSettings, check_installed, training_rows, tune

_ROUND: Final = "round.json"
_SUMMARY: Final = "writer.json"
_FEWEST_VALIDATED: Final = 10


@dataclass(frozen=True)
class RoundSettings:
    """What `multigrain writer tune` is asked for.

    Attributes:
        name: of the folder.
        base: the weights to start from; None for the run's own writer, or the embedded one.
        tune: how a round is tuned.
        rounds: at most.
        validation_share: of training documents, which only measure.
        validation_rows: written on them at most.
        rows: training completions of a round at most.
        draws: answers to each training prompt in a round, of the model that is tuned; 0 learns from the run's alone.
        dtype: of the GGUF files.
    """

    name: str = "sft"
    base: str | None = None
    tune: TuneSettings = field(default_factory=TuneSettings)
    rounds: int = 1
    validation_share: float = 0.2
    validation_rows: int = 200
    rows: int = 400
    draws: int = 0
    dtype: str = "q8_0"


def tune_writer(
    directory: Path, settings: RoundSettings, *, redo: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """Tune a writer on what a run's audit accepted and rejected; goes on where it was interrupted.

    Args:
        directory: the run, audited.
        settings: what to do.
        redo: do it again where it was done with other settings, instead of refusing.
        progress: who is told.

    Returns:
        The summary, as `--json` prints it.

    Raises:
        RunDirectoryError, StageOrderError: it is no audited run.
        RunMismatchError: the folder holds rounds of other settings.
        SourceError: too little was accepted or rejected to learn from.
        ModelError: the base cannot be loaded.
        MissingExtraError: the extra `writer` is not installed.
    """
    check_installed()
    progress = progress or SilentProgress()
    config, run = open_audited(directory)
    folder = run.path / "writer" / settings.name
    with run.hold():
        base = settings.base or default_base(config)
        _claim(folder, config, run, base, settings, redo=redo)
        learnt, validated = split_units(config, training_units(config, read_inputs(config, run)), settings)
        known = {unit.document.id for unit in learnt}
        own = [each for each in run_completions(config, run) if known.issuperset(each.document_ids)]
        training_rows(own, "sft")  # too few accepted rows are told before anything is loaded
        with open_measure(config, run) as measure:
            work = _Rounds(config, run, settings, folder, learnt, validated, measure, progress)
            return work.run(base, own)


def split_units(
    config: Config, units: Sequence[WritingUnit], settings: RoundSettings
) -> tuple[list[WritingUnit], list[WritingUnit]]:
    """Units to learn from, and units that only measure: near-duplicates of a document are on one side.

    Raises:
        SourceError: fewer than 10 would measure.
    """
    sides: tuple[list[WritingUnit], list[WritingUnit]] = ([], [])
    for unit in units:
        if unit.query is not None and not unit.with_negatives:
            continue  # nothing is written for it
        key = _group(unit.document)
        sides[seeded_place(config.seed, "writer-validation", key) < settings.validation_share].append(unit)
    learnt, validated = sides
    measured = {_group(unit.document) for unit in validated}
    learnt = [unit for unit in learnt if unit.other is None or _group(unit.other) not in measured]
    if len(validated) < _FEWEST_VALIDATED:
        raise SourceError(
            f"writer tune: {len(validated)} rows to measure on, of {len(units)}; at least {_FEWEST_VALIDATED} are "
            "needed: give more documents, or raise --validation-share"
        )
    return learnt, validated[: settings.validation_rows]


def _group(document: Document) -> str:
    return document.id if document.group < 0 else str(document.group)


def _claim(folder: Path, config: Config, run: RunDirectory, base: str, settings: RoundSettings, *, redo: bool) -> None:
    """See that the folder is for these settings and this data."""
    values = asdict(settings) | {"base": base}
    values.pop("rounds")  # more of them go on from those that are done
    data = run.require("dataset", "multigrain audit").fingerprint
    key = fingerprint("writer", values, data)
    path = folder / "settings.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    if before is not None and before["fingerprint"] != key:
        if not redo:
            changed = [
                f"{name} was {before['settings'].get(name)!r}, now {value!r}"
                for name, value in values.items()
                if before["settings"].get(name) != value
            ]
            raise RunMismatchError(
                f"{folder}: a writer was tuned here with other settings ({'; '.join(changed) or 'or other rows'}); "
                "choose another folder with --name, or --redo to tune again"
            )
        shutil.rmtree(folder)
    atomic_write(path, json.dumps({"fingerprint": key, "settings": values}, indent=2))


@dataclass
class _Rounds:
    """The rounds of one folder."""

    config: Config
    run_directory: RunDirectory
    settings: RoundSettings
    folder: Path
    learnt: list[WritingUnit]
    validated: list[WritingUnit]
    measure: Measure
    progress: Progress
    draws: dict[tuple[int, int], tuple[GradedCompletion, ...]] = field(default_factory=dict)

    def run(self, base: str, own: list[GradedCompletion]) -> dict[str, Any]:
        weights = self.folder / "base"
        if not (weights / "config.json").is_file():
            self.progress.say(f"writer: reading the weights of {base}")
            save_writer(*load_writer(base), weights)
        done = [self._round(0, lambda file: self._convert(weights, file))]
        best = 0
        for number in range(1, self.settings.rounds + 1):
            start = weights if self.settings.tune.objective == "sft" or number == 1 else self._weights(number - 1)
            done.append(self._tuned_round(number, start, own, done))
            if done[-1]["acceptance"]["share"] <= done[best]["acceptance"]["share"]:
                if number < self.settings.rounds:
                    self.progress.say(f"writer: round {number} accepts no more than round {best}: it ends here")
                break
            best = number
        return self._finish(base, done, best)

    def _tuned_round(
        self, number: int, start: Path, own: Sequence[GradedCompletion], before: Sequence[dict[str, Any]]
    ) -> dict[str, Any]:
        folder = self._folder(number)

        def make(file: Path) -> None:
            # What earlier rounds drew is in their journals: after an interruption nothing is asked again.
            drawn = [
                self._drawn(Path(earlier["gguf"]), earlier["round"], draw)
                for earlier in before
                for draw in range(1, self.settings.draws + 1)
            ]
            completions = [*own, *(completion for each in drawn for completion in each)]
            rows = training_rows(completions, self.settings.tune.objective)[-self.settings.rows :]
            lines = (json.dumps(row, ensure_ascii=False) for row in rows)
            atomic_write(folder / "rows.jsonl", "".join(f"{line}\n" for line in lines))
            model, tokenizer = load_writer(str(start))
            with self.progress.task(f"Tuning round {number} on {len(rows)} rows", None) as task:
                tuned = tune(
                    model,
                    tokenizer,
                    rows,
                    self.settings.tune,
                    folder / "checkpoints",
                    on_step=lambda step, steps, loss: task.advance(note=f"step {step} of {steps}, loss {loss:.3f}"),
                    on_interrupt=lambda: self.progress.remark("stopping after this step, with a checkpoint of it"),
                )
            save_writer(tuned, tokenizer, self._weights(number))
            self._convert(self._weights(number), file)

        return self._round(number, make)

    def _round(self, number: int, make: Any) -> dict[str, Any]:
        """A round's record; what is complete is not done again."""
        folder = self._folder(number)
        record = folder / _ROUND
        if record.is_file():
            found: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
            self.progress.say(f"writer: round {number} is complete, kept")
            return found
        file = folder / f"{self.settings.name}-round-{number}-{self.settings.dtype}.gguf"
        if not file.is_file():
            make(file)
        written = self._draw(file, self.validated, number, 0)
        rows = folder / "rows.jsonl"
        found = {
            "round": number,
            "rows": sum(1 for _ in rows.open(encoding="utf-8")) if rows.is_file() else 0,
            "gguf": str(file),
            "acceptance": written.acceptance.plain(),
        }
        atomic_write(record, json.dumps(found, indent=2))
        remove(folder / "checkpoints")
        accepted = written.acceptance
        self.progress.say(
            f"writer: round {number}: {accepted.kept} of {accepted.asked} validation rows accepted, "
            f"{accepted.share:.0%} [{accepted.low:.0%}, {accepted.high:.0%}], distinct-2 {accepted.distinct_2:.2f}"
        )
        return found

    def _draw(self, file: Path, units: Sequence[WritingUnit], number: int, draw: int) -> Draw:
        llm = writer_config(self.config.llm, file)
        journal = self._folder(number) / "journal.sqlite"
        with self.progress.task(f"Writing {len(units)} rows with round {number}'s model", None):
            return draw_rows(self.config, self.run_directory, llm, units, self.measure, journal=journal, number=draw)

    def _drawn(self, file: Path, number: int, draw: int) -> tuple[GradedCompletion, ...]:
        """What a round's model answers to training prompts."""
        if (number, draw) not in self.draws:
            units = self.learnt[: self.settings.rows]
            self.draws[number, draw] = self._draw(file, units, number, draw).completions
        return self.draws[number, draw]

    def _convert(self, weights: Path, file: Path) -> None:
        from multigrain.export.llama_cpp.decoder import write_decoder

        self.progress.say(f"writer: writing {file.name}")
        model, tokenizer = load_writer(str(weights))
        with atomic_directory(file.with_suffix(".parts")) as parts:
            write_decoder(model, tokenizer, parts / file.name, self.settings.dtype, name=file.stem)
        (file.with_suffix(".parts") / file.name).replace(file)
        remove(file.with_suffix(".parts"))

    def _finish(self, base: str, done: Sequence[dict[str, Any]], best: int) -> dict[str, Any]:
        config = self.folder / "config.yaml"
        llm = writer_config(self.config.llm, Path(done[best]["gguf"]))
        values = self.config.model_copy(update={"llm": llm}).model_dump(mode="json")
        atomic_write(config, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
        summary = {
            "run": str(self.run_directory.path),
            "name": self.settings.name,
            "objective": self.settings.tune.objective,
            "base": base,
            "rounds": list(done),
            "best": best,
            "gguf": done[best]["gguf"],
            "config": str(config),
        }
        atomic_write(self.folder / _SUMMARY, json.dumps(summary, indent=2))
        return summary

    def _folder(self, number: int) -> Path:
        folder = self.folder / f"round-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _weights(self, number: int) -> Path:
        return self._folder(number) / "weights"


def writer_config(llm: LLMConfig, file: Path) -> LLMConfig:
    """The `llm` section with a GGUF file as its embedded writer; how it samples stays.

    Args:
        llm: the section.
        file: the writer.
    """
    kept = {name: getattr(llm, name) for name in ("temperature", "top_p", "max_tokens", "context_tokens", "threads")}
    concurrency = llm.concurrency if llm.provider == "local" else LLMConfig().concurrency
    # llama.cpp, as it frees a model when it is done: a round loads several.
    return LLMConfig(provider="local", model=str(file), runtime="llamacpp", concurrency=concurrency, **kept)

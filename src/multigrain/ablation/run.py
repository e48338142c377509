"""Run an ablation: what arms can share is made once, every arm is resumable, and the budget is kept.

    OUT/
      writing/KEY/       documents and written rows, shared by arms that write alike
      data/KEY/          the graded rows of arms that audit alike, and in it
        models/ARM-SEED/     the trained model, removed once scored unless models are kept
        arms/ARM-SEED/       its per-query results
      base/KEY/          the per-query results of a base model, or of the first stage that rerankers sort again
      embeddings/        vectors of the base models
      ablation.md, ablation.csv, ablation.tex, ablation.html

Folders are named for the settings and files that made them, so a changed matrix reuses what still holds.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from sentence_transformers import SentenceTransformer

from multigrain.ablation.first_stage import Found, find_first, scored_again, scored_alone
from multigrain.ablation.matrix import CANDIDATE, Arm, ArmFolders, Matrix, shared_folders
from multigrain.ablation.page import render_ablation
from multigrain.ablation.render import to_csv, to_latex, to_markdown
from multigrain.ablation.table import AblationTable, ArmScores, build_table
from multigrain.config import CandidateConfig, Config, fingerprint
from multigrain.display.progress import Progress, SilentProgress
from multigrain.encoders.cache import CachedEncoder
from multigrain.encoders.cross_encoder import load_cross_encoder
from multigrain.encoders.encoder import SentenceTransformerEncoder, model_fingerprint
from multigrain.encoders.reference import base_model, encoding_precision
from multigrain.errors import ConfigError, EvaluationError
from multigrain.evaluation.per_query import read_per_query, write_per_query
from multigrain.evaluation.results import BASE
from multigrain.evaluation.scoring import Scored, score_model
from multigrain.evaluation.sets.loading import OpenedSets, open_sets
from multigrain.evaluation.sets.retrieval_set import EvaluationSet, sample
from multigrain.evaluation.sets.run_sets import domain_sets, searched_documents
from multigrain.evaluation.settings import CompareSettings
from multigrain.model.attention.implementation import check_implementation
from multigrain.model.encoder import load
from multigrain.stages.base import RunContext, complete_stage
from multigrain.stages.fingerprints import base_settings
from multigrain.stages.preflight import check_selection
from multigrain.stages.table import STAGES
from multigrain.stages.training import run_candidate
from multigrain.storage.files import atomic_directory, atomic_write
from multigrain.storage.rundir import RunDirectory, StageManifest
from multigrain.tools.synthesis_estimate import dry_run
from multigrain.training.mixing import mix_fingerprint

TABLE_FILES: Final = {
    "ablation.md": to_markdown,
    "ablation.csv": to_csv,
    "ablation.tex": to_latex,
    "ablation.html": render_ablation,
}

_FORMAT: Final = 1
_SCORES: Final = "per_query.parquet"
_WRITING: Final = (STAGES["documents"], STAGES["synthesis"])
_AUDIT: Final = STAGES["audit"]
_REMEDY: Final = "choose another folder with --out, or remove {folder} to have it made again"
_NO_JUDGE: Final = (
    "nothing to judge the arms by: set evaluation.queries to titles or synthetic, or name a test set under "
    "evaluation.sets"
)


@dataclass
class _Ablation:
    """One ablation under way: where it lies, who is told, and what has been made so far."""

    matrix: Matrix
    out: Path
    progress: Progress
    folders: dict[str, ArmFolders]
    sets: tuple[EvaluationSet, ...] = ()
    found: tuple[Found, ...] = ()
    written: dict[Path, RunDirectory] = field(default_factory=dict)
    audited: dict[Path, tuple[RunContext, StageManifest]] = field(default_factory=dict)
    longest: float = 0.0
    scores: list[ArmScores] = field(default_factory=list)
    not_run: list[str] = field(default_factory=list)

    def context(self, config: Config, folder: Path) -> RunContext:
        return RunContext(
            config, RunDirectory(folder), self.progress, embeddings=self.out / "embeddings", remedy=_REMEDY
        )

    def found_first(self) -> tuple[Found, ...]:
        """What rerankers sort again; found once, when the first arm is scored."""
        if not self.found and self.matrix.rerank is not None:
            config, cache = self.matrix.reference.config, self.out / "embeddings"
            self.found = find_first(self.matrix.rerank, config, self.sets, cache=cache)
        return self.found

    def shared(self) -> list[StageManifest]:
        """The stages that arms share."""
        written = self.out.glob("writing/*/*/manifest.json")
        audited = self.out.glob(f"data/*/{_AUDIT.folder}/manifest.json")
        return [_manifest(path) for path in (*written, *audited, *self.out.glob("data/*/teachers/*/manifest.json"))]

    def paid(self) -> list[float]:
        """What was paid, in US dollars, where that is known: for each writing, and for what is asked about its rows.

        Audit and teachers of a folder have one journal, and each says what all of it cost until then.
        """
        written = [_manifest(path).counts.get("cost") for path in self.out.glob("writing/*/*/manifest.json")]
        costs = [cost for cost in written if cost is not None]
        for folder in self.out.glob("data/*"):
            journal = 0.0
            for path in (*folder.glob(f"{_AUDIT.folder}/manifest.json"), *folder.glob("teachers/*/manifest.json")):
                counts = _manifest(path).counts
                embedded = [each["cost"] or 0.0 for each in counts.get("embeddings", {}).values()]
                costs += embedded
                journal = max(journal, (counts.get("cost") or 0.0) - sum(embedded))
            costs += [journal] if journal else []
        return costs

    def spent(self) -> float:
        """Seconds of work in all that is complete, over every session that contributed."""
        own = [*self.out.glob("data/*/arms/*/manifest.json"), *self.out.glob("base/*/manifest.json")]
        return sum(manifest.seconds for manifest in (*self.shared(), *map(_manifest, own)))


def run_ablation(matrix: Matrix, out: Path, *, progress: Progress | None = None) -> AblationTable:
    """Run every arm with every seed and write the table. Interrupted anywhere, the same call goes on.

    All arms get their first seed before any gets its second, so that a budget that runs out leaves a whole table.

    Args:
        matrix: what to run.
        out: the folder to keep it in.
        progress: who is told; None for silence.

    Raises:
        RunBusyError: another process works in the folder.
        MultigrainError: something that the user can mend.
    """
    for arm in matrix.arms:
        check_implementation(arm.config.training.attn_implementation)
        check_selection(arm.config, ["training"])
    with RunDirectory(out).hold():
        ablation = _Ablation(matrix, out, progress or SilentProgress(), shared_folders(matrix.arms, out))
        ablation.sets = tuple(_sets(ablation))
        for seed in matrix.file.seeds:
            for arm in matrix.arms:
                _run_arm(ablation, arm, seed)
        table = _table(ablation)
        for name, rendered in TABLE_FILES.items():
            atomic_write(out / name, rendered(table))
    return table


def _sets(ablation: _Ablation) -> Iterator[EvaluationSet]:
    """The reference arm's test queries judge all arms, also those whose own model wrote others."""
    config = ablation.matrix.reference.config
    others = open_sets(config.evaluation.sets, seed=config.seed)
    if config.evaluation.queries == "none" and not any(opened.role == "test" for opened in others.retrieval):
        raise EvaluationError(_NO_JUDGE)  # before anything is written
    run = _written(ablation, ablation.matrix.reference)
    sets = [*domain_sets(config, run, searched_documents(run)), *others.retrieval]
    if others.similarity or others.tasks:
        ablation.progress.say("ablation: similarity sets and MTEB tasks are left out; retrieval sets judge the arms")
    if not any(opened.role == "test" for opened in sets):
        raise EvaluationError(_NO_JUDGE)
    limit = None if ablation.matrix.rerank is None else config.evaluation.reranking.max_queries
    for judge in sets:
        yield judge if limit is None else sample(judge, max_queries=limit, seed=config.seed)


def _written(ablation: _Ablation, arm: Arm) -> RunDirectory:
    """Documents and written rows for an arm, made once for all arms that write alike."""
    folder = ablation.folders[arm.name].writing
    if folder not in ablation.written:
        context = ablation.context(arm.config, folder)
        _check_cost(ablation, context)
        for stage in _WRITING:
            stage.run(context)
        context.save_config()
        ablation.written[folder] = context.run
    return ablation.written[folder]


def _check_cost(ablation: _Ablation, context: RunContext) -> None:
    """Refuse to have anything written that would, by estimate, go beyond the budget.

    Raises:
        _OverBudgetError: it would.
        ConfigError: nobody knows what the model costs.
    """
    budget = ablation.matrix.file.budget_cost
    if budget is None or context.run.manifest("synthesis") is not None:
        return
    estimate = dry_run(context.config, context.run.path, prompts=0)
    if estimate.cost is None:
        raise ConfigError("budget_cost needs to know what the model costs: set llm.prices in the config")
    spent = sum(ablation.paid())
    if spent + estimate.cost > budget:
        raise _OverBudgetError(
            f"budget_cost {budget:g}: writing for {context.run.path} would cost about ${estimate.cost:.2f} on top of "
            f"${spent:.2f}; raise it, or have less written"
        )


class _OverBudgetError(ConfigError):
    """An arm would take or cost more than the budget."""


def _audited(ablation: _Ablation, arm: Arm) -> tuple[RunContext, StageManifest]:
    """Graded rows for an arm, made once for all arms that audit alike."""
    written, folder = _written(ablation, arm), ablation.folders[arm.name].data
    if folder not in ablation.audited:
        context = ablation.context(arm.config, folder)
        for stage in _WRITING:
            _share(written.path / stage.folder, folder / stage.folder)
        _AUDIT.run(context)
        ablation.audited[folder] = context, context.run.require(_AUDIT.folder, "multigrain ablate")
    context, audited = ablation.audited[folder]
    STAGES["teachers"].run(replace(context, config=arm.config))  # what an earlier arm's teacher scored is kept
    return context, audited


def _share(source: Path, target: Path) -> None:
    """Copy a finished stage, without the journal: it belongs to the one place that writes."""
    if (target / "manifest.json").exists():
        return
    with atomic_directory(target) as folder:
        shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*journal.sqlite*"))


def _run_arm(ablation: _Ablation, arm: Arm, seed: int) -> None:
    try:
        _check_seconds(ablation)
        prepared, audited = _audited(ablation, arm)
    except _OverBudgetError:
        ablation.not_run.append(f"{arm.name} (seed {seed})")
        return
    name = f"{arm.key}-{seed}"
    settings = arm.config.training.resolve(CANDIDATE)
    training = settings.model_copy(update={"candidates": {name: CandidateConfig()}})
    config = arm.config.model_copy(update={"seed": seed, "training": training})
    context = replace(prepared, config=config)
    scored = fingerprint(
        _FORMAT,
        audited.fingerprint,
        arm.training_settings,
        seed,
        _judged_by(ablation, config),
        # Only where there are any: an arm without keeps its fingerprint.
        *(mix_fingerprint(source) for source in settings.mix),
    )
    done = complete_stage(context, f"arms/{name}", scored, lambda: _score_arm(ablation, context, name, data=prepared))
    ablation.longest = max(ablation.longest, done.seconds)
    ablation.scores.append(
        ArmScores(
            arm=arm.name,
            values=arm.values,
            seed=seed,
            sets=_read_scores(context.run.path / "arms" / name / _SCORES),
            base=_read_scores(_base_scores(ablation, config)),
            seconds=done.seconds,
            rows=audited.counts["kept"],
            clusters={judge.name: dict(zip(judge.queries, judge.clusters, strict=True)) for judge in ablation.sets},
        )
    )


def _check_seconds(ablation: _Ablation) -> None:
    """Refuse to start an arm that would, if it takes as long as the longest so far, go beyond the budget."""
    budget = ablation.matrix.file.budget_seconds
    if budget is not None and ablation.scores and ablation.spent() + ablation.longest > budget:
        raise _OverBudgetError(f"budget_seconds {budget:g}: used up")


def _score_arm(ablation: _Ablation, context: RunContext, name: str, *, data: RunContext) -> dict[str, Any]:
    run_candidate(context, name, data=data)
    folder, target = context.run.candidate_path(name), context.run.path / "arms" / name
    trusted, rerank = context.config.training.trust_remote_code, ablation.matrix.rerank
    if rerank is None:
        model = load(str(folder), trust_remote_code=trusted)
        counts = _score(ablation, context.config, model, name, target, cache=None)
    else:
        reranker = load_cross_encoder(str(folder), setting="arm", trust_remote_code=trusted)
        counts = _kept(scored_again(name, reranker, ablation.found_first(), rerank.depth), name, target)
    if not ablation.matrix.file.keep_models:
        shutil.rmtree(folder)
    return counts


def _base_scores(ablation: _Ablation, config: Config) -> Path:
    """The results that an arm is compared with: of its base model or, of rerankers, of the first stage alone.

    They are made once for all arms that have the same.
    """
    if ablation.matrix.rerank is not None:
        scored = fingerprint(_FORMAT, "first stage", _judged_by(ablation, config))
        return _made_once(
            ablation, config, scored, lambda target: _kept(scored_alone(ablation.found_first()), BASE, target)
        )
    lengths = [] if config.training.save_max_seq_length else ["its own length"]
    scored = fingerprint(_FORMAT, base_settings(config.training), _judged_by(ablation, config), *lengths)
    cache = ablation.out / "embeddings"
    return _made_once(
        ablation,
        config,
        scored,
        lambda target: _score(ablation, config, base_model(config), BASE, target, cache=cache),
    )


def _made_once(ablation: _Ablation, config: Config, scored: str, score: Callable[[Path], dict[str, Any]]) -> Path:
    # The folder is named for what made it, so complete_stage never finds another's result there.
    context = replace(ablation.context(config, ablation.out), progress=SilentProgress())
    folder = f"base/{scored[:16]}"
    target = ablation.out / folder
    complete_stage(context, folder, scored, lambda: score(target))
    return target / _SCORES


def _judged_by(ablation: _Ablation, config: Config) -> list[Any]:
    """What decides a score, besides the model."""
    contents = [
        [judge.name, judge.role, fingerprint(dict(judge.corpus), dict(judge.queries), judge.qrels)]
        for judge in ablation.sets
    ]
    rerank = ablation.matrix.rerank
    first_stage = [] if rerank is None else rerank.decided_by(ablation.matrix.reference.config)
    return [*contents, config.training.precision, *first_stage]


def _score(
    ablation: _Ablation, config: Config, model: SentenceTransformer, name: str, folder: Path, *, cache: Path | None
) -> dict[str, Any]:
    encoder = CachedEncoder(
        SentenceTransformerEncoder(model, batch_size=config.evaluation.batch_size), model_fingerprint(model), cache
    )
    scored = Scored()
    with encoding_precision(config, model):
        score_model(name, model, encoder, OpenedSets(retrieval=ablation.sets), scored, progress=ablation.progress)
    encoder.close()
    return _kept(scored, name, folder)


def _kept(scored: Scored, name: str, folder: Path) -> dict[str, Any]:
    """Write a model's scores; the mean of each set, as a manifest's counts."""
    write_per_query(folder / _SCORES, scored.rows())
    return {set_name: scores[name].ndcg_at_10 for set_name, scores in scored.scores.items()}


def _read_scores(path: Path) -> dict[str, dict[str, float]]:
    scores: dict[str, dict[str, float]] = {}
    for row in read_per_query(path):
        scores.setdefault(row.set, {})[row.query_id] = row.ndcg_at_10
    return scores


def _table(ablation: _Ablation) -> AblationTable:
    matrix = ablation.matrix
    settings = matrix.reference.config.evaluation
    shared = ablation.shared()
    writing = [manifest for manifest in shared if manifest.stage == "synthesis"]
    costs = ablation.paid()
    return build_table(
        ablation.scores,
        axes=matrix.axes,
        sets={judge.name: judge.role for judge in ablation.sets},
        reference=matrix.reference.name,
        not_run=ablation.not_run,
        settings=CompareSettings(settings.bootstrap_samples, settings.confidence, seed=matrix.reference.config.seed),
        data_seconds=sum(manifest.seconds for manifest in shared),
        tokens=sum(
            manifest.counts.get(kind, 0) for manifest in writing for kind in ("prompt_tokens", "completion_tokens")
        ),
        cost=sum(costs) if costs else None,
        ranked_by=[choosing.name for choosing in settings.choosing_sets],
        reranked="" if matrix.rerank is None else matrix.rerank.words,
    )


def _manifest(path: Path) -> StageManifest:
    manifest = RunDirectory(path.parent.parent).manifest(path.parent.name)
    if manifest is None:
        raise FileNotFoundError(path)
    return manifest

"""Opening the teachers that a config names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

from multigrain.audit.judges import open_judge
from multigrain.config import Config, TeacherConfig, fingerprint
from multigrain.config.candidates import candidate_named
from multigrain.encoders.batches import pair_tokens
from multigrain.encoders.cache import CachedEncoder
from multigrain.encoders.cross_encoder import load_cross_encoder
from multigrain.encoders.protocol import Encoder
from multigrain.encoders.served import EmbeddingUsage, ServedEncoder
from multigrain.evaluation.reranking import Reranker
from multigrain.model.encoder import build_encoder
from multigrain.model.precision import supports_native_bf16
from multigrain.model.scoring_head import is_cross_encoder
from multigrain.storage.files import content_fingerprint
from multigrain.storage.rundir import RunDirectory
from multigrain.teachers.models import CrossEncoderTeacher, EmbedderTeacher, JudgeTeacher, TokenBatchEncoder
from multigrain.teachers.protocol import TEXTS_AT_ONCE
from multigrain.teachers.score import KeptTeacher
from multigrain.teachers.spending import is_served
from multigrain.teachers.store import PairScores

_SETTING: Final = "training.teacher"


@contextmanager
def open_teachers(
    config: Config,
    run: RunDirectory,
    teachers: Sequence[TeacherConfig],
    fingerprint: Callable[[TeacherConfig], str],
    *,
    vectors: Path,
) -> Iterator[list[KeptTeacher]]:
    """Load teachers, each with the scores that it has given in this run.

    Args:
        config: the run's.
        run: keeps scores, and a language model's answers.
        teachers: which.
        fingerprint: of what a teacher says.
        vectors: a folder that keeps what embedders have embedded.

    Raises:
        ModelError: one cannot be loaded.
        ConfigError: an address cannot be, or has no key.
    """
    with ExitStack() as stack:
        opened = []
        for teacher in teachers:
            name = fingerprint(teacher)
            known = stack.enter_context(closing(PairScores(scores_path(run, name))))
            opened.append(_open(config, run, _at_hand(run, teacher), name, vectors, stack, known))
        yield opened


def open_reranker(
    config: Config, run: RunDirectory, name: str, teacher: TeacherConfig, known: PairScores, fingerprint: str
) -> Reranker:
    """A cross-encoder as what sorts documents again, with the scores that it has given in this run.

    Args:
        config: the run's.
        run: where a candidate lies.
        name: what tables call it.
        teacher: which.
        known: the scores that it has given.
        fingerprint: of what it says.

    Raises:
        ModelError: it cannot be loaded, or scores no pairs.
    """
    model, trusted = _at_hand(run, teacher).model, config.training.trust_remote_code
    return load_reranker(model, name, trust_remote_code=trusted, known=known, fingerprint=fingerprint)


def load_reranker(
    reference: str,
    name: str,
    *,
    trust_remote_code: bool = False,
    known: PairScores | None = None,
    fingerprint: str = "",
) -> Reranker:
    """A cross-encoder as what sorts documents again.

    Args:
        reference: a folder or a hub id.
        name: what tables call it.
        trust_remote_code: run code that comes with it.
        known: keeps its scores; None keeps none.
        fingerprint: of what it says, where its scores are kept.

    Raises:
        ModelError: it cannot be loaded, or scores no pairs.
    """
    model = load_cross_encoder(reference, setting="reranker", trust_remote_code=trust_remote_code)
    teacher = CrossEncoderTeacher(model, pair_tokens(model.device), fingerprint)

    def kept(pairs: Sequence[tuple[str, str]]) -> list[float]:
        if known is None:
            return teacher.scores(pairs)
        scores, _ = KeptTeacher(teacher, known).scores(pairs)
        return [scores[pair] for pair in pairs]

    return Reranker(name, kept, teacher.scores)


@contextmanager
def open_rerankers(
    named: Sequence[tuple[str, str]], *, trust_remote_code: bool = False, scores: Path | None = None
) -> Iterator[list[Reranker]]:
    """Cross-encoders as what sorts documents again, each with the scores that it has given in earlier calls.

    Args:
        named: reference and name of each.
        trust_remote_code: run code that comes with them.
        scores: a folder that keeps scores by pair, named by the model's content; None keeps none.

    Raises:
        ModelError: one cannot be loaded, or scores no pairs.
        RunDirectoryError: a file of scores cannot be opened.
    """
    with ExitStack() as stack:
        rerankers = []
        for reference, name in named:
            content = fingerprint("reranker", content_fingerprint(Path(reference)) or reference)
            file = None if scores is None else scores / f"pairs-{content[:24]}.sqlite"
            known = None if file is None else stack.enter_context(closing(PairScores(file)))
            rerankers.append(
                load_reranker(reference, name, trust_remote_code=trust_remote_code, known=known, fingerprint=content)
            )
        yield rerankers


def scores_path(run: RunDirectory, fingerprint: str) -> Path:
    """The file of the scores that one teacher has given in a run."""
    return run.path / "teachers" / f"scores-{fingerprint[:24]}.sqlite"


def _at_hand(run: RunDirectory, teacher: TeacherConfig) -> TeacherConfig:
    """A teacher by the folder that it lies in, where it is a candidate of the run."""
    named = candidate_named(teacher.model)
    return teacher if named is None else teacher.model_copy(update={"model": str(run.candidate_path(named))})


def is_pair_model(teacher: TeacherConfig) -> bool:
    """Whether a teacher is a cross-encoder."""
    return teacher.kind == "cross-encoder" or (
        teacher.kind == "auto" and not teacher.is_judge and is_cross_encoder(teacher.model)
    )


def _open(
    config: Config,
    run: RunDirectory,
    teacher: TeacherConfig,
    name: str,
    vectors: Path,
    stack: ExitStack,
    known: PairScores,
) -> KeptTeacher:
    trusted = config.training.trust_remote_code
    if teacher.is_judge:
        return KeptTeacher(
            JudgeTeacher(stack.enter_context(open_judge(config, run)), name, teacher.probabilities), known
        )
    if is_pair_model(teacher):
        scorer = load_cross_encoder(
            teacher.model, setting=_SETTING, trust_remote_code=trusted, max_seq_length=teacher.max_seq_length
        )
        quick = supports_native_bf16(scorer.device)
        return KeptTeacher(CrossEncoderTeacher(scorer, teacher.batch_tokens, name, bf16=quick), known)
    encoder: Encoder
    usage: EmbeddingUsage | None = None
    if is_served(teacher):
        prompts = teacher.prompts.resolved({})
        encoder = ServedEncoder(
            teacher.model,
            query_prompt=prompts.get("query") or "",
            document_prompt=prompts.get("document") or "",
        )
        usage = encoder.usage
    else:
        model = build_encoder(
            teacher.model,
            max_seq_length=teacher.max_seq_length,
            trust_remote_code=trusted,
            prompts=teacher.prompts,
        )
        bf16 = supports_native_bf16(model.device)
        encoder = TokenBatchEncoder(model, batch_tokens=teacher.batch_tokens, bf16=bf16)
    cached = stack.enter_context(closing(CachedEncoder(encoder, encoder.fingerprint, vectors, chunk=TEXTS_AT_ONCE)))
    return KeptTeacher(EmbedderTeacher(cached, name), known, usage)

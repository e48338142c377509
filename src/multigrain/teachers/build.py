"""Opening the teachers that a config names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

from multigrain.audit.judges import open_judge
from multigrain.config import Config, TeacherConfig
from multigrain.encoders.cache import CachedEncoder
from multigrain.encoders.cross_encoder import is_cross_encoder, load_cross_encoder
from multigrain.encoders.protocol import Encoder
from multigrain.encoders.served import EmbeddingUsage, ServedEncoder
from multigrain.model.encoder import build_encoder
from multigrain.model.precision import supports_native_bf16
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
            opened.append(_open(config, run, teacher, name, vectors, stack, known))
        yield opened


def scores_path(run: RunDirectory, fingerprint: str) -> Path:
    """The file of the scores that one teacher has given in a run."""
    return run.path / "teachers" / f"scores-{fingerprint[:24]}.sqlite"


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
        return KeptTeacher(CrossEncoderTeacher(scorer, teacher.batch_tokens, name), known)
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

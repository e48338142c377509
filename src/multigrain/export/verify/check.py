"""Compare a running server with a model's folder: vectors, alone and in batches, and what search loses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from multigrain.display.progress import Progress, SilentProgress
from multigrain.encoders.encoder import SentenceTransformerEncoder, encode
from multigrain.encoders.protocol import Floats, Role, encode_as, unit_length
from multigrain.encoders.served import BATCH_SIZE, ServedEncoder
from multigrain.encoders.server import FoundServer
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.export.cost import Cost, measure_cost
from multigrain.export.parity import PARITY_TOLERANCE
from multigrain.export.verify.diagnosis import ROLES, Diagnosis
from multigrain.export.verify.prompting import Prompting
from multigrain.export.verify.reasons import Reason
from multigrain.export.verify.texts import ProbeTexts, probe_texts
from multigrain.model.prompts import role_prompt

_LENGTH_SLACK: Final = 1e-2
_SAME: Final = 0.999
"""The least cosine between a text's vectors alone and in a batch, of a server that does nothing wrong."""

_ANOTHERS: Final = 0.99
"""The least cosine at which a vector counts as that of another text of its batch."""


@dataclass(frozen=True)
class VerifyJob:
    """What is compared, and how.

    Attributes:
        model: of the folder, on the CPU.
        source: what the user called it.
        server: that is asked.
        prompting: who puts prompts before texts.
        sets: what nDCG@10 is measured on, and texts are taken from; may be empty.
        tolerance: the largest difference of a number of a vector of length 1 that passes.
        batch_size: texts a request.
        seed: of the sample of texts.
        progress: who is told.
    """

    model: SentenceTransformer
    source: str
    server: FoundServer
    prompting: Prompting = "sent"
    sets: tuple[EvaluationSet, ...] = ()
    tolerance: float = PARITY_TOLERANCE
    batch_size: int = BATCH_SIZE
    seed: int = 13
    progress: Progress = field(default_factory=SilentProgress)


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found.

    Attributes:
        texts: how many were compared, each alone and in a batch.
        dimensions: of the server's vectors.
        max_difference: between numbers of vectors of length 1; None where the dimensions differ.
        mean_cosine: between the server's vectors and the folder's; None as above.
        tolerance: that was allowed.
        reasons: that explain the differences; empty where the vectors are the folder's.
        notes: what a client has to know although the vectors are right.
        costs: loss in nDCG@10 on each set.
    """

    texts: int
    dimensions: int
    max_difference: float | None
    mean_cosine: float | None
    tolerance: float
    reasons: tuple[Reason, ...]
    notes: tuple[str, ...]
    costs: tuple[Cost, ...]

    @property
    def same(self) -> bool:
        """Whether the server gives the folder's vectors."""
        return not self.reasons

    def facts(self) -> dict[str, Any]:
        """The same, ready for JSON."""
        reasons = [{"kind": each.kind, "finding": each.finding, "advice": each.advice} for each in self.reasons]
        return {**asdict(self), "same": self.same, "reasons": reasons}

    def lines(self) -> Iterator[str]:
        """The same for people: a verdict, its reasons, and what to do."""
        apart = "" if self.max_difference is None else f", at most {self.max_difference:.1e} apart"
        cosine = "" if self.mean_cosine is None else f", mean cosine {self.mean_cosine:.4f}"
        asked = f"{self.texts} texts, each alone and in a batch{apart} ({self.tolerance:.0e} allowed){cosine}"
        yield f"{'the same vectors' if self.same else 'OTHER VECTORS'}: {asked}"
        for reason in self.reasons:
            yield f"  {reason}"
            yield f"    {reason.advice}"
        yield from (f"  note: {note}" for note in self.notes)
        yield from (str(cost) for cost in self.costs)


def verify(job: VerifyJob) -> Verification:
    """Ask a server for vectors, and compare them with the folder's.

    Raises:
        EndpointUnreachableError: it stops answering.
        EndpointRefusedError: it refuses the key, the model or a prompt's name.
        EvaluationError: it answers with something that is no vectors, or with vectors that are not finite.
    """
    texts = probe_texts(job.sets, job.seed)
    with job.progress.task("Asking the server", None):
        alone, refused = _ask(job, texts, batch_size=1)
        together, also = _ask(job, texts, batch_size=job.batch_size)
    kept = {role: _kept(texts.of(role), refused[role] | also[role]) for role in ROLES}
    asked = {role: [texts.of(role)[row] for row in kept[role]] for role in ROLES}
    given = {role: alone[role][kept[role]] for role in ROLES}
    batched = {role: together[role][kept[role]] for role in ROLES}
    with job.progress.task("Comparing with the folder", None):
        folder = {role: encode(job.model, asked[role], role=role, normalise=False, batch_size=8) for role in ROLES}
        differences = _differences(folder, given, batched)
        reasons = _batch_reasons(given, batched, job.tolerance)
        if differences is None or _alone(folder, given) > job.tolerance:
            reasons = (*Diagnosis(job.model, asked, given).reasons(), *reasons)
        another = any(reason.kind == "another-model" for reason in reasons)
        lengths, notes = _lengths(job.model, folder, given) if not another else ((), ())
    cut = sum(len(refused[role] | also[role]) for role in ROLES)
    if cut:
        refusing = f"it refuses long texts instead of cutting them ({cut} of {len(texts)}, not compared)"
        notes = (*notes, f"{refusing}: cut them first")
    same = differences is not None
    return Verification(
        texts=sum(map(len, asked.values())),
        dimensions=given["query"].shape[1],
        max_difference=float(differences.max()) if differences is not None else None,
        mean_cosine=_mean_cosine(folder, given) if same else None,
        tolerance=job.tolerance,
        reasons=(*reasons, *lengths),
        notes=notes,
        costs=_costs(job),
    )


def _encoder(job: VerifyJob, *, batch_size: int, normalise: bool) -> ServedEncoder:
    """The client, with prompts as the job says they are applied."""
    own = {role: role_prompt(job.model, role) for role in ROLES}
    sent = job.prompting == "sent"
    return ServedEncoder(
        job.server.reference,
        batch_size=batch_size,
        query_prompt=own["query"] if sent else "",
        document_prompt=own["document"] if sent else "",
        prompt_names={role: role for role in ROLES if own[role]} if job.prompting == "named" else None,
        wire=job.server.wire,
        normalise=normalise,
    )


def _ask(
    job: VerifyJob, texts: ProbeTexts, *, batch_size: int
) -> tuple[dict[Role, Floats], dict[Role, frozenset[str]]]:
    """Vectors by role, and the texts that the server took only when they were cut."""
    vectors: dict[Role, Floats] = {}
    refused: dict[Role, frozenset[str]] = {}
    for role in ROLES:
        encoder = _encoder(job, batch_size=batch_size, normalise=False)
        vectors[role] = encode_as(encoder, texts.of(role), role)
        prompt = role_prompt(job.model, role) if job.prompting == "sent" else ""
        refused[role] = frozenset(text.removeprefix(prompt) for text in encoder.cut)
    return vectors, refused


def _kept(texts: Sequence[str], refused: frozenset[str]) -> list[int]:
    return [row for row, text in enumerate(texts) if text not in refused]


def _differences(
    folder: Mapping[Role, Floats], given: Mapping[Role, Floats], batched: Mapping[Role, Floats]
) -> NDArray[Any] | None:
    """Of each text the largest difference of a number, alone or in a batch; None where dimensions differ."""
    if folder["query"].shape[1] != given["query"].shape[1]:
        return None
    parts = [
        np.abs(unit_length(vectors[role]) - unit_length(folder[role])).max(1)
        for role in ROLES
        for vectors in (given, batched)
    ]
    return np.concatenate(parts)


def _alone(folder: Mapping[Role, Floats], given: Mapping[Role, Floats]) -> float:
    return float(max(np.abs(unit_length(given[role]) - unit_length(folder[role])).max() for role in ROLES))


def _mean_cosine(folder: Mapping[Role, Floats], given: Mapping[Role, Floats]) -> float:
    rows = [(unit_length(folder[role]) * unit_length(given[role])).sum(1) for role in ROLES]
    return float(np.concatenate(rows).mean())


def _batch_reasons(
    given: Mapping[Role, Floats], batched: Mapping[Role, Floats], tolerance: float
) -> tuple[Reason, ...]:
    """What a text's vector owes to the others of its batch."""
    cosines, moved = [], 0
    for role in ROLES:
        one, many = unit_length(given[role]), unit_length(batched[role])
        own = (one * many).sum(1)
        cosines.append(own)
        every = many @ one.T
        moved += int(((every.max(1) >= _ANOTHERS) & (every.argmax(1) != np.arange(len(one))) & (own < _SAME)).sum())
    own = np.concatenate(cosines)
    if moved > 1:
        return (Reason("order", f"{moved} of {len(own)} vectors of a batch belong to another text of it"),)
    apart = max(float(np.abs(unit_length(given[role]) - unit_length(batched[role])).max()) for role in ROLES)
    if apart > tolerance and own.min() < _SAME:
        return (
            Reason(
                "batch", f"a text's vector depends on what shares its request: cosine {own.min():.3f} at the lowest"
            ),
        )
    return ()


def _lengths(
    model: SentenceTransformer, folder: Mapping[Role, Floats], given: Mapping[Role, Floats]
) -> tuple[tuple[Reason, ...], tuple[str, ...]]:
    """Whether vectors are as long as the folder's, which products depend on and cosines do not."""
    own, theirs = (np.concatenate([np.linalg.norm(rows[role], axis=1) for role in ROLES]) for rows in (folder, given))
    if np.abs(theirs / np.maximum(own, 1e-12) - 1).max() <= _LENGTH_SLACK:
        return (), ()
    normalised = np.abs(own - 1).max() <= _LENGTH_SLACK
    if not normalised and np.abs(theirs - 1).max() <= _LENGTH_SLACK:
        finding = "vectors of length 1, and the folder does not normalise"
        if model.similarity_fn_name == "cosine":
            return (), (f"{finding}: cosines are the same",)
        return (Reason("normalisation", f"{finding}: products differ"),), ()
    finding = f"vectors of lengths {theirs.min():.3g} to {theirs.max():.3g}, the folder's "
    finding += "have length 1" if normalised else f"{own.min():.3g} to {own.max():.3g}"
    return (Reason("normalisation", finding),), ()


def _costs(job: VerifyJob) -> tuple[Cost, ...]:
    if not job.sets:
        return ()
    cosine = job.model.similarity_fn_name == "cosine"
    before = SentenceTransformerEncoder(job.model)
    after = _encoder(job, batch_size=job.batch_size, normalise=cosine)
    return tuple(measure_cost(before, after, each, job.progress, "the server") for each in job.sets)

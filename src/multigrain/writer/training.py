"""One round of tuning, by TRL and peft: imitation, preferences, or rewards.

    sft     imitates accepted completions, each weighted by its reward. After SDA (arXiv 2101.03236: **notes**)
    dpo     direct preference optimisation on pairs of accepted and rejected completions of one prompt, scored
            automatically. After Align-SLM (arXiv 2411.01834: **notes**)
    reward  a policy-gradient step on logged completions: each weighted by its advantage, its reward less the mean of
            its prompt, or of all. After READ (arXiv 2501.08035: **notes**)

The rewards are the audit's measures: **ours**.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any, Final, Literal, get_args

from multigrain.display.install import install_line
from multigrain.errors import MissingExtraError, ModelError, SourceError
from multigrain.llm.protocol import Message
from multigrain.training.checkpoints import last_complete_checkpoint
from multigrain.training.interrupt import OrderlyInterrupt
from multigrain.writer.forms import trl_rows
from multigrain.writer.grading import GradedCompletion

Objective = Literal["sft", "dpo", "reward"]
OBJECTIVES: Final[tuple[Objective, ...]] = get_args(Objective)

FEWEST: Final = 8
"""Accepted completions, or pairs, below which nothing is tuned."""

_RATES: Final[dict[Objective, float]] = {"sft": 2e-4, "dpo": 2e-5, "reward": 5e-5}
_ADVANTAGES: Final = (-0.25, 2.0)
"""Advantages are clipped here: a likelihood has no lower bound, and pushing many texts down would undo the model."""
_CHECKPOINT: Final = ("optimizer.pt", "scheduler.pt", "adapter_model.safetensors")


@dataclass(frozen=True)
class TuneSettings:
    """How a round is tuned.

    Attributes:
        objective: see above.
        epochs: passes over the rows.
        learning_rate: of the adapters; None: 2e-4 for sft, 2e-5 for dpo, 5e-5 for reward.
        batch_size: completions, or pairs, a step.
        max_length: tokens of prompt and completion; longer ones are left out.
        rank: of the adapters.
        alpha: of the adapters.
        dropout: of the adapters.
        beta: dpo only: how far the model may move from the one it starts from.
        checkpoint_every: steps.
        seed: of the order and of the adapters.
    """

    objective: Objective = "sft"
    epochs: float = 2.0
    learning_rate: float | None = None
    batch_size: int = 8
    max_length: int = 1024
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05
    beta: float = 0.1
    checkpoint_every: int = 20
    seed: int = 13


def check_installed() -> None:
    """See that TRL and peft are there, before anything is done.

    Raises:
        MissingExtraError: one is not.
    """
    for package in ("trl", "peft"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "tuning the writer", install_line("writer"))


def training_rows(completions: Sequence[GradedCompletion], objective: Objective) -> list[dict[str, Any]]:
    """What an objective learns from: conversational rows, with weights where it has them.

    Args:
        completions: graded.
        objective: which.

    Raises:
        SourceError: there are fewer than 8.
    """
    if objective == "dpo":
        rows = trl_rows(completions, "preference")
        what = "pairs of an accepted and a rejected completion of one prompt"
    elif objective == "sft":
        rows = trl_rows(completions, "sft")
        mean = fmean(row["reward"] for row in rows) or 1.0
        rows = [{**row, "weight": row["reward"] / mean} for row in rows]
        what = "accepted completions"
    else:
        rows = trl_rows(completions, "kto")
        rows = [{**row, "weight": weight} for row, weight in zip(rows, advantages(completions), strict=True) if weight]
        what = "completions whose reward differs from the mean"
    if len(rows) < FEWEST:
        raise SourceError(
            f"writer tune --objective {objective}: {len(rows)} {what}; at least {FEWEST} are needed, better hundreds: "
            "write more rows, or let the audit keep more"
        )
    return rows


def advantages(completions: Sequence[GradedCompletion]) -> list[float]:
    """Reward less the mean of the prompt's completions, or of all where a prompt has one; in standard deviations.

    Clipped to -0.25 and 2.
    """
    by_prompt: dict[tuple[Message, ...], list[float]] = defaultdict(list)
    for completion in completions:
        by_prompt[completion.prompt].append(completion.reward)
    rewards = [completion.reward for completion in completions]
    overall, scale = fmean(rewards), pstdev(rewards) or 1.0
    low, high = _ADVANTAGES
    found = []
    for completion in completions:
        own = by_prompt[completion.prompt]
        baseline = fmean(own) if len(own) > 1 else overall
        found.append(min(high, max(low, (completion.reward - baseline) / scale)))
    return found


def tune(
    model: Any,
    tokenizer: Any,
    rows: Sequence[dict[str, Any]],
    settings: TuneSettings,
    checkpoints: Path,
    *,
    on_step: Callable[[int, int, float], None] = lambda step, steps, loss: None,
    on_interrupt: Callable[[], None] | None = None,
) -> Any:
    """Tune a model with adapters, and merge them; goes on from the last checkpoint.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        rows: see `training_rows`.
        settings: how.
        checkpoints: the folder of this round's checkpoints.
        on_step: told of every step: its number, how many there are, the loss.
        on_interrupt: told at once of Ctrl-C or SIGTERM.

    Returns:
        The model with the adapters merged into it.

    Raises:
        MissingExtraError: TRL or peft is not installed.
        ModelError: the loss is not finite.
        KeyboardInterrupt: Ctrl-C or SIGTERM; a checkpoint was written first.
    """
    check_installed()
    trainer = _trainer(model, tokenizer, _fitting(rows, tokenizer, settings), settings, checkpoints)
    recorder = _recorder(on_step)
    with OrderlyInterrupt(on_first=on_interrupt) as interrupt:
        trainer.add_callback(interrupt)
        trainer.add_callback(recorder)
        last = last_complete_checkpoint(checkpoints, parts=_CHECKPOINT)
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    if interrupt.requested and trainer.state.global_step < trainer.state.max_steps:
        raise KeyboardInterrupt(
            f"writer tune: interrupted after step {trainer.state.global_step} of {trainer.state.max_steps}; the same "
            "command continues from there"
        )
    return trainer.model.merge_and_unload()


def _trainer(
    model: Any, tokenizer: Any, rows: Sequence[dict[str, Any]], settings: TuneSettings, checkpoints: Path
) -> Any:
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PrinterCallback, ProgressCallback, set_seed
    from trl import DPOConfig, DPOTrainer, SFTConfig

    from multigrain.writer.weighted import WEIGHT, weighted_trainer

    set_seed(settings.seed)
    steps = max(1, round(settings.epochs * len(rows) / settings.batch_size))
    common: dict[str, Any] = {
        "output_dir": str(checkpoints),
        "max_steps": steps,
        "per_device_train_batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate or _RATES[settings.objective],
        "warmup_steps": max(1, steps // 10),
        "lr_scheduler_type": "linear",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": settings.checkpoint_every,
        "save_total_limit": 2,
        "max_length": settings.max_length,
        "seed": settings.seed,
        "bf16": _has_cuda(),
        "gradient_checkpointing": False,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": _has_cuda(),
    }
    adapters = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    given = {"model": model, "processing_class": tokenizer, "peft_config": adapters}
    if settings.objective == "dpo":
        data = Dataset.from_list([{key: row[key] for key in ("prompt", "chosen", "rejected")} for row in rows])
        trainer = DPOTrainer(args=DPOConfig(beta=settings.beta, **common), train_dataset=data, **given)
    else:
        data = Dataset.from_list([{key: row[key] for key in ("prompt", "completion", WEIGHT)} for row in rows])
        trainer = weighted_trainer()(args=SFTConfig(**common), train_dataset=data, **given)
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return trainer


def _fitting(rows: Sequence[dict[str, Any]], tokenizer: Any, settings: TuneSettings) -> list[dict[str, Any]]:
    """The rows that are read whole: a cut one would teach to stop, or to answer another question.

    Raises:
        SourceError: fewer than 8 are.
    """
    answers = ("chosen", "rejected") if settings.objective == "dpo" else ("completion",)

    def fits(row: dict[str, Any]) -> bool:
        chats = [row["prompt"] + row[answer] for answer in answers]
        texts = [tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats]
        return all(
            len(tokenizer(text, add_special_tokens=False)["input_ids"]) <= settings.max_length for text in texts
        )

    fitting = [row for row in rows if fits(row)]
    if len(fitting) < FEWEST:
        raise SourceError(
            f"writer tune: {len(fitting)} of {len(rows)} rows have at most {settings.max_length} tokens; raise "
            "--max-length, or lower synthesis.document_characters"
        )
    return fitting


def _recorder(on_step: Callable[[int, int, float], None]) -> Any:
    from transformers import TrainerCallback

    class Recorder(TrainerCallback):
        """Passes on every step, and ends a training whose loss is no number."""

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            loss = (logs or {}).get("loss")
            if loss is None:
                return
            if loss != loss:  # noqa: PLR0124 - NaN alone differs from itself
                raise ModelError(f"writer tune: the loss is NaN at step {state.global_step}: lower --learning-rate")
            on_step(int(state.global_step), int(state.max_steps), float(loss))

    return Recorder()


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()

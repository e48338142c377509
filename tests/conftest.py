"""Small real things that several folders of tests share."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

# Read at import by the libraries under test: nothing may reach for a hub, and forked tokenizers must not warn.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

# A shell that starts the tests in the background has them ignore Ctrl-C, and with them all that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _json_is_of_the_documented_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a command prints for `--json` in a test is held against its shape."""
    from multigrain.cli import console

    plain = console.json_line

    def checked(values: Mapping[str, Any]) -> str:
        from typer._click.globals import get_current_context

        line, context = plain(values), get_current_context(silent=True)
        if context is not None:
            from tests.json_shapes import check_shape, shape_name

            # Not by how it was typed: a test may have an app of one command.
            called = context.command.callback
            words = tuple(dict.fromkeys([called.__module__.rpartition(".")[2], called.__name__]))
            read = json.loads(line)
            check_shape(shape_name(words, read, dry_run=bool(context.params.get("dry_run"))), read)
        return line

    monkeypatch.setattr(console, "json_line", checked)


SUBJECTS = ["river", "engine", "garden", "market", "signal", "bridge", "planet", "fabric", "recipe", "valley"]
VERBS = ["flows", "turns", "grows", "opens", "fades", "stands", "moves", "folds", "warms", "sleeps"]


@pytest.fixture(scope="session")
def small_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer BERT as a sentence-transformers folder: seconds to train, dropout and all."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, set_seed

    set_seed(5)
    words = sorted({*SUBJECTS, *VERBS, *(f"w{number}" for number in range(200))})
    vocabulary = {token: index for index, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    )
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    folder = tmp_path_factory.mktemp("small-bert")
    BertModel(config).save_pretrained(folder / "weights")
    tokenizer.save_pretrained(folder / "weights")
    modules = [Transformer(str(folder / "weights")), Pooling(32, pooling_mode="mean"), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder / "model"), create_model_card=False)
    return folder / "model"


@pytest.fixture
def corpus_file(tmp_path: Path) -> Path:
    """Sixty short documents with titles, as JSON lines."""
    return write_corpus(tmp_path / "corpus.jsonl")


@pytest.fixture(scope="session")
def session_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same documents, for runs that several tests look at."""
    return write_corpus(tmp_path_factory.mktemp("corpus") / "corpus.jsonl")


def write_corpus(path: Path) -> Path:
    """Write the sixty documents."""
    draw = random.Random(4)
    rows = []
    for number in range(60):
        subject, verb = SUBJECTS[number % 10], VERBS[number // 6]
        words = " ".join(f"w{draw.randrange(200)}" for _ in range(20))
        rows.append(
            {
                "id": f"doc-{number}",
                "title": f"the {subject} that {verb} {number}",
                "text": f"{subject} {verb} {words}",
            }
        )
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path

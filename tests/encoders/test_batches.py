"""Batches by tokens: every text once, none wider than allowed, and the vectors of any other batching."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from multigrain.encoders.batches import readable_parts, token_batches
from multigrain.encoders.encoder import encode
from multigrain.model.encoder import build_encoder


@given(st.lists(st.integers(1, 300), max_size=200), st.integers(1, 500), st.integers(1, 64))
def test_every_text_is_in_one_batch_that_is_as_wide_and_as_many_as_allowed(
    lengths: list[int], tokens: int, texts: int
) -> None:
    batches = list(token_batches(lengths, tokens, texts=texts))

    assert sorted(position for batch in batches for position in batch) == list(range(len(lengths)))
    widths = [max(lengths[position] for position in batch) for batch in batches]
    assert widths == sorted(widths, reverse=True)
    for batch, width in zip(batches, widths, strict=True):
        assert len(batch) <= texts
        assert len(batch) == 1 or len(batch) * width <= tokens
    # No batch has room for the first text of the next.
    for batch, width in zip(batches[:-1], widths[:-1], strict=True):
        assert len(batch) == texts or (len(batch) + 1) * width > tokens


def test_what_is_left_out_of_a_text_is_never_read_and_order_is_kept(small_bert: Path) -> None:
    model = build_encoder(str(small_bert), max_seq_length=16, device="cpu")
    texts = [
        "river w1 w2",
        "engine w3 " * 400,
        "w" * 2_000,  # one word, longer than any cut
        "",
        "river " + "w7" * 600,
        *(f"engine w{number} " * number for number in range(1, 40)),
        "   river\n\nw5\t" * 90,
    ]

    parts = readable_parts(model, texts)
    assert parts is not None
    read, lengths = parts
    assert max(lengths) == 16
    assert len(read[1]) < 200 < len(texts[1])
    assert (read[0], read[2], read[4]) == (texts[0], texts[2], texts[4])

    alone = np.concatenate([model.encode([text], show_progress_bar=False) for text in texts])
    vectors = encode(model, texts, normalise=False, batch_size=8)
    np.testing.assert_allclose(vectors, alone, atol=1e-5)


def test_a_tokenizer_that_cuts_at_the_left_is_handed_whole_texts(small_bert: Path) -> None:
    model = build_encoder(str(small_bert), max_seq_length=16, device="cpu")
    model.tokenizer.truncation_side = "left"
    texts = ["engine w3 " * 400 + end for end in ("river", "w1 w2 w3 w4")]

    assert readable_parts(model, texts) is None
    assert not np.allclose(*encode(model, texts, normalise=False))

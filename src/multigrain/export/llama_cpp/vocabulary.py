"""A tokenizer as llama.cpp holds it: the algorithm, tokens and their kinds, merges or scores, what it adds to a text.

llama.cpp splits text by programs of its own, of which a file names one. Whether that gives the tokenizer's tokens is
asked of llama.cpp itself afterwards (`check.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from multigrain.errors import ExportError

# A GGUFWriter has no types.
Writer = Any

_SPACE: Final = "\u2581"
_WORD_OF_QWEN: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# What splits a text before byte pairs are merged, by the pattern in tokenizer.json: the name of the same in llama.cpp.
_SPLITTERS: Final = {_WORD_OF_QWEN: "qwen2", _WORD_OF_QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|"): "llama-bpe"}
_ROLES: Final = ("bos", "eos", "unk", "sep", "pad", "mask")


def write_vocabulary(writer: Writer, tokenizer: Any, rows: int) -> None:
    """Write a tokenizer into a GGUF file.

    Args:
        writer: a GGUFWriter.
        tokenizer: a fast tokenizer of transformers.
        rows: of the table of token embeddings; tokens without a name are filled up to it.

    Raises:
        ExportError: it is not a fast tokenizer, or of a kind that llama.cpp does not have.
    """
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise ExportError(
            f"GGUF: its {type(tokenizer).__name__} has no tokenizer.json; only fast tokenizers are written"
        )
    if len(tokenizer.get_vocab()) <= len(tokenizer.added_tokens_decoder):  # transformers makes one up without a word
        raise ExportError("GGUF: its tokenizer has special tokens only: the folder's tokenizer.json is missing")
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    tokens, types = _tokens(tokenizer, rows)
    kind = parts["model"]["type"]
    if kind == "WordPiece":
        _write_word_pieces(writer, parts, tokens, types)
    elif kind == "BPE" and parts["model"].get("byte_fallback"):
        _write_sentence_pieces(writer, parts, tokens, types)
    elif kind == "BPE":
        _write_byte_pairs(writer, parts, tokens)
    else:
        raise ExportError(f"GGUF: llama.cpp has no tokenizer like this {kind} one; --to onnx keeps it")
    writer.add_token_types(types)
    _write_special(writer, tokenizer)


def _tokens(tokenizer: Any, rows: int) -> tuple[list[str], list[int]]:
    """Every token by number, and its kind."""
    from gguf import TokenType

    named = tokenizer.get_vocab()
    if max(named.values()) >= rows:
        raise ExportError(f"GGUF: its tokenizer has tokens beyond the {rows} rows of the model's table of embeddings")
    tokens = [f"[unused {number}]" for number in range(rows)]
    types = [int(TokenType.UNUSED)] * rows
    for token, number in named.items():
        tokens[number], types[number] = token, int(TokenType.NORMAL)
    for number, added in tokenizer.added_tokens_decoder.items():
        types[number] = int(TokenType.CONTROL if added.special else TokenType.USER_DEFINED)
    return tokens, types


def _write_word_pieces(writer: Writer, parts: Any, tokens: list[str], types: list[int]) -> None:
    from gguf import TokenType

    prefix = parts["model"]["continuing_subword_prefix"]
    normal = int(TokenType.NORMAL)
    # llama.cpp marks the pieces that begin a word, and the tokenizer those that do not.
    marked = [
        token if kind != normal else token.removeprefix(prefix) if token.startswith(prefix) else _SPACE + token
        for token, kind in zip(tokens, types, strict=True)
    ]
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(marked)


def _write_byte_pairs(writer: Writer, parts: Any, tokens: list[str]) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_splitter(parts["pre_tokenizer"]))
    writer.add_token_list(tokens)
    writer.add_token_merges([" ".join(pair) for pair in _merges(parts)])


def _write_sentence_pieces(writer: Writer, parts: Any, tokens: list[str], types: list[int]) -> None:
    from gguf import TokenType

    # SentencePiece joins the pair whose token scores highest; here that is the one whose merge comes first.
    scores: dict[str, float] = {}
    for rank, (left, right) in enumerate(_merges(parts)):
        scores.setdefault(left + right, -float(rank))
    for number, token in enumerate(tokens):
        if len(token) == len("<0x00>") and token.startswith("<0x"):
            types[number] = int(TokenType.BYTE)
    unknown = parts["model"].get("unk_token")
    if unknown in tokens:
        types[tokens.index(unknown)] = int(TokenType.UNKNOWN)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([scores.get(token, 0.0 if len(token) == 1 else -1e6) for token in tokens])
    writer.add_add_space_prefix(any(step.get("type") == "Prepend" for step in _steps(parts["normalizer"])))


def _merges(parts: Any) -> Iterator[tuple[str, str]]:
    for merge in parts["model"]["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        yield left, right


def _splitter(part: Any) -> str:
    """llama.cpp's name of what splits a text into words."""
    steps = list(_steps(part))
    kinds = [step["type"] for step in steps]
    whole = bool(steps) and kinds[-1] == "ByteLevel" and not steps[-1]["add_prefix_space"]
    if whole and kinds == ["ByteLevel"]:
        return "gpt-2"
    if whole and kinds == ["Digits", "ByteLevel"] and steps[0]["individual_digits"]:
        return "smollm"
    if whole and kinds == ["Split", "ByteLevel"]:
        name = _SPLITTERS.get(steps[0]["pattern"].get("Regex", ""))
        if name is not None:
            return name
    raise ExportError("GGUF: llama.cpp has no way to split text like this tokenizer's; --to onnx keeps it")


def _steps(part: Any) -> Iterator[Any]:
    if part is None:
        return
    inner = part.get("pretokenizers") or part.get("normalizers")
    if inner is None:
        yield part
    else:
        for step in inner:
            yield from _steps(step)


def added_ids(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The tokens that a tokenizer puts before and behind every text."""
    bare, whole = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
    start = next(place for place in range(len(whole)) if whole[place : place + len(bare)] == bare)
    return whole[:start], whole[start + len(bare) :]


def _write_special(writer: Writer, tokenizer: Any) -> None:
    before, behind = added_ids(tokenizer)
    if len(before) > 1 or len(behind) > 1:
        raise ExportError("GGUF: its tokenizer puts several tokens before or behind a text; --to onnx keeps them")
    numbers = {role: getattr(tokenizer, f"{role}_token_id", None) for role in _ROLES}
    # What ends a text is its end token, whatever the tokenizer calls it.
    numbers |= {role: ids[0] for role, ids in (("bos", before), ("eos", behind)) if ids}
    for role, number in numbers.items():
        if number is not None:
            getattr(writer, f"add_{role}_token_id")(number)
    writer.add_add_bos_token(bool(before))
    writer.add_add_eos_token(bool(behind))

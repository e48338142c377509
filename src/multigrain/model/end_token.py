"""End texts with the tokenizer's end token, for the pooling that reads the last one."""

from __future__ import annotations

from typing import Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer

from multigrain.errors import ModelError


def ends_texts(model: SentenceTransformer) -> bool:
    """Whether a model's tokenizer puts a special token behind every text.

    Args:
        model: any encoder; one that reads no tokens of a transformer ends none.
    """
    if not isinstance(model[0], Transformer):
        return False
    tokenizer: Any = model.tokenizer
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    return bool(whole[-1:] != bare[-1:] and whole[-1] in tokenizer.all_special_ids)


def append_end_token(model: SentenceTransformer) -> None:
    """Have a model's tokenizer put its end-of-sequence token behind every text, cut texts included.

    The last token of a causal decoder stands for the text. Without an end token that is whatever the text ends with, a
    full stop as often as not; E5-Mistral, RepLLaMA and Qwen3-Embedding all read the end token instead. It is written
    into the tokenizer's own file, so that sentence-transformers, vLLM and TEI append it too. A tokenizer that ends
    texts with a special token of its own stays as it is.

    Args:
        model: an encoder over a transformer; changed in place.

    Raises:
        ModelError: it reads no tokens of a transformer, or its tokenizer has no end token or will not append it.
    """
    if not isinstance(model[0], Transformer):
        raise ModelError("append_eos needs a transformer that reads tokens; leave it out")
    if ends_texts(model):
        return
    tokenizer: Any = model.tokenizer
    if getattr(tokenizer, "eos_token_id", None) is None:
        raise ModelError("append_eos: its tokenizer has no end-of-sequence token; use append_eos: false")
    # The setters write a new template from both flags, and the flag of the beginning may be off although the template
    # in the file has one (Llama 3): what the tokenizer does decides.
    tokenizer.add_bos_token = tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
    tokenizer.add_eos_token = True
    if not ends_texts(model):
        raise ModelError(
            f"append_eos: {type(tokenizer).__name__} will not append its end token; use append_eos: false"
        )

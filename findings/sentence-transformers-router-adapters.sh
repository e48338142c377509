#!/usr/bin/env bash
# sentence-transformers 6.2.0 with peft 0.21.2: a Router whose query route has adapters is saved without an error and
# cannot be loaded (guessed: it loads, as a model without a Router does). The route's folder holds the adapters alone;
# for their base the loader takes the path in adapter_config.json, and looks there for the subfolder of the route.
# Output seen: without a Router: loads, vectors equal. With one: OSError: Error no file named model.safetensors, or
# pytorch_model.bin, found in directory …/tiny.
source "$(dirname "$0")/_run.sh"
in_environment sentence-transformers==6.2.0 transformers==5.23.0 peft==0.21.2 torch==2.13.0 <<'PROGRAM'
from pathlib import Path

import numpy as np
from peft import LoraConfig
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from tokenizers import Tokenizer, models
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

tiny = str(Path("tiny").absolute())
words = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "river": 2}, unk_token="[UNK]"))
PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(tiny)
sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
BertModel(BertConfig(vocab_size=3, **sizes)).save_pretrained(tiny)


def route() -> list:
    return [Transformer(tiny), Pooling(8)]


queries = route()
queries[0].auto_model.add_adapter(LoraConfig(r=2, target_modules=["query"]))

plain = SentenceTransformer(modules=queries, device="cpu")
plain.save_pretrained("plain")
again = SentenceTransformer("plain", device="cpu")
assert np.allclose(again.encode(["river"]), plain.encode(["river"]))
print("without a Router: loads, vectors equal")

routed = SentenceTransformer(modules=[Router.for_query_document(queries, route())], device="cpu")
routed.save_pretrained("routed")
saved = {path.name for path in Path("routed/query_0_Transformer").iterdir()}
assert "adapter_model.safetensors" in saved and "model.safetensors" not in saved
try:
    SentenceTransformer("routed", device="cpu")
except OSError as error:
    print(f"with one: OSError: {error}")
    assert "no file named model.safetensors" in str(error) and "tiny" in str(error)
else:
    raise AssertionError("it loads")
PROGRAM

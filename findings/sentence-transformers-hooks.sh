#!/usr/bin/env bash
# sentence-transformers 6.2.0 with torch 2.13.0: hooks on the transformers model inside a SentenceTransformer.
# Guessed: a hook that is registered on the whole transformers model, such as one that looks at its inputs or keeps its
# hidden states, runs whenever a text is embedded.
# Seen: it never runs. The Transformer module calls the model's `forward` itself, and hooks hang on the call of the
# module. Hooks on its parts, such as its embeddings or layers, run.
source "$(dirname "$0")/_run.sh"
in_environment sentence-transformers==6.2.0 torch==2.13.0 transformers==5.23.0 <<'PROGRAM'
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

backend = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "river": 2, "engine": 3}, unk_token="[UNK]"))
backend.pre_tokenizer = pre_tokenizers.Whitespace()
PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]").save_pretrained("model")
shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
BertModel(BertConfig(vocab_size=4, **shape)).save_pretrained("model")
model = SentenceTransformer(modules=[Transformer("model"), Pooling(16)], device="cpu")

ran = []
inner = model.transformers_model
for name, module in (("model", inner), ("embeddings", inner.embeddings), ("layer", inner.encoder.layer[0])):
    module.register_forward_hook(lambda *_, name=name: ran.append(name))
model.encode(["river engine"])
print("encode:", ran)
assert ran == ["embeddings", "layer"], ran

ran.clear()
inner(**{key: value for key, value in model.preprocess(["river engine"]).items() if key.endswith(("ids", "mask"))})
print("called:", ran)
assert ran == ["embeddings", "layer", "model"], ran
PROGRAM

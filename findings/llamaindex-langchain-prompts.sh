#!/usr/bin/env bash
# llama-index-embeddings-huggingface 0.8.0, langchain-huggingface 1.2.3: both load a sentence-transformers folder and leave out
# the prompts that it names for queries and documents (guessed: `encode_query` and `encode_document`, which put them).
# LlamaIndex replaces them by its own, which are empty for any model that it does not know; LangChain calls `encode` for
# both. A model that was tuned with prompts is then asked without them, and nothing says so. Named once more they are put:
# `query_instruction`, `text_instruction`; `query_encode_kwargs`, `encode_kwargs`.
# Output seen: four times the vector without a prompt, then four times those with.
source "$(dirname "$0")/_run.sh"
in_environment llama-index-embeddings-huggingface==0.8.0 langchain-huggingface==1.2.3 sentence-transformers==6.2.0 <<'PY'
import numpy as np
import torch
from langchain_huggingface import HuggingFaceEmbeddings
from llama_index.embeddings.huggingface import HuggingFaceEmbedding
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import BertConfig, BertModel, BertTokenizerFast

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ask", "read", "river"]
PROMPTS = {"query": "ask ", "document": "read "}
with open("vocab.txt", "w") as lines:
    print(*WORDS, sep="\n", file=lines)
torch.manual_seed(0)
sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
BertModel(BertConfig(vocab_size=len(WORDS), max_position_embeddings=32, **sizes)).save_pretrained("bert")
BertTokenizerFast("vocab.txt", model_max_length=32).save_pretrained("bert")
model = SentenceTransformer(modules=[Transformer("bert"), Pooling(32)], prompts=PROMPTS, device="cpu")
model.save("tuned")
vectors = {
    "none": model.encode("river", prompt=""),
    "query": model.encode_query("river"),
    "document": model.encode_document("river"),
}


def prompt_of(vector):
    cosines = {
        name: float(np.dot(vector, other) / np.linalg.norm(vector) / np.linalg.norm(other))
        for name, other in vectors.items()
    }
    name = max(cosines, key=cosines.get)
    assert cosines[name] > 0.99999 > sorted(cosines.values())[-2]
    return name


index = HuggingFaceEmbedding("tuned", device="cpu")
chain = HuggingFaceEmbeddings(model_name="tuned")
told_index = HuggingFaceEmbedding(
    "tuned", device="cpu", query_instruction=PROMPTS["query"], text_instruction=PROMPTS["document"]
)
told_chain = HuggingFaceEmbeddings(
    model_name="tuned",
    query_encode_kwargs={"prompt_name": "query"},
    encode_kwargs={"prompt_name": "document"},
)
seen = [
    [
        prompt_of(one.get_query_embedding("river")),
        prompt_of(one.get_text_embedding("river")),
        prompt_of(other.embed_query("river")),
        prompt_of(other.embed_documents(["river"])[0]),
    ]
    for one, other in ((index, chain), (told_index, told_chain))
]
print(seen)
assert seen == [["none"] * 4, ["query", "document"] * 2]
PY

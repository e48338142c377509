#!/usr/bin/env bash
# mteb 2.26.24: its cache of results, which `mteb.evaluate` uses unless it is told not to, keeps every model that was loaded
# from a folder under one name, `no_model_name/available`: the second model gets the first one's scores, without a word
# (guessed: the folder's name, and another key where weights change). Base and tuned model then look alike. `cache=None`
# measures each.
# Output seen: 1.0 and 0.0 without the cache; 1.0 and 1.0 with it.
source "$(dirname "$0")/_run.sh"
in_environment mteb==2.26.24 sentence-transformers==6.2.0 <<'PY'
import mteb
import numpy as np
from datasets import Dataset
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.cache import ResultCache
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, models, pre_tokenizers

WORDS = ["[UNK]", "cat", "kitten", "dog"]


class Pets(AbsTaskRetrieval):
    metadata = TaskMetadata(
        name="Pets",
        description="One query, two documents.",
        dataset={"path": "local", "revision": "local"},
        type="Retrieval",
        category="t2t",
        eval_langs=["eng-Latn"],
        main_score="ndcg_at_1",
    )

    def load_data(self, **_):
        part = {
            "corpus": Dataset.from_dict({"id": ["d1", "d2"], "text": ["kitten", "dog"]}),
            "queries": Dataset.from_dict({"id": ["q"], "text": ["cat"]}),
            "relevant_docs": {"q": {"d1": 1}},
            "top_ranked": None,
        }
        self.dataset = {"default": {"test": part}}
        self.data_loaded = True


def model(name, kitten, dog):
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    weights = np.array([[0, 1], [1, 0], kitten, dog], dtype=np.float32)
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=weights)], device="cpu").save(name)
    return SentenceTransformer(name, device="cpu")


good, bad = model("good", [1, 0], [0, 1]), model("bad", [0, 1], [1, 0])
scores = {}
for kept in (None, ResultCache("cache")):
    results = [
        mteb.evaluate(one, Pets(), cache=kept, co2_tracker=False, show_progress_bar=False) for one in (good, bad)
    ]
    scores[kept is not None] = [float(result.task_results[0].get_score()) for result in results]
    print([result.model_name for result in results], scores[kept is not None])
    assert {result.model_name for result in results} == {"no_model_name/available"}
assert scores == {False: [1.0, 0.0], True: [1.0, 1.0]}
PY

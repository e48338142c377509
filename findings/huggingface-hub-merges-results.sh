#!/usr/bin/env bash
# huggingface_hub 2.4.0: results on two sets whose `dataset.type` is the same, such as "unknown" for sets that are not on
# the hub, become one entry when a model card is read and saved again: the second set's figure then stands under the
# first one's name (guessed: names that differ keep them apart, as they do in the file that was read). The key is task,
# type, config, split and revision; the name is no part of it.
# Output seen: read [('Manuals', 0.1), ('Letters', 0.9)], saved and read again [('Manuals', 0.1), ('Manuals', 0.9)].
source "$(dirname "$0")/_run.sh"
in_environment huggingface_hub==2.4.0 <<'PY'
from huggingface_hub import ModelCard

CARD = """---
model-index:
- name: model
  results:
  - task: {type: information-retrieval}
    dataset: {name: Manuals, type: TYPE1}
    metrics:
    - {type: ndcg_at_10, value: 0.1}
  - task: {type: information-retrieval}
    dataset: {name: Letters, type: TYPE2}
    metrics:
    - {type: ndcg_at_10, value: 0.9}
---
# Model
"""


def figures(card: ModelCard) -> list:
    return [(result.dataset_name, result.metric_value) for result in card.data.eval_results]


def again(first: str, second: str) -> tuple:
    card = ModelCard(CARD.replace("TYPE1", first).replace("TYPE2", second))
    before = figures(card)
    card.data.tags = ["changed"]
    card.save("README.md")
    return before, figures(ModelCard.load("README.md"))


right = [("Manuals", 0.1), ("Letters", 0.9)]
before, after = again("unknown", "unknown")
print("read", before, "saved and read again", after)
assert before == right
assert after == [("Manuals", 0.1), ("Manuals", 0.9)]
assert again("manuals", "letters") == (right, right)
PY

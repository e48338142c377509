#!/usr/bin/env bash
# sentence-transformers 6.2.0, CrossEncoder under torch 2.13.0's DistributedDataParallel, as its trainer sets it up where
# nobody says otherwise (find_unused_parameters=True, the default of transformers' trainer).
# Guessed: it trains as an embedding model does.
# Seen: `preprocess` gives a BatchEncoding, and the model puts its scores into it. That is a mapping, but no dict, so that
# the wrapper finds no tensor in what the model returns, takes every weight for unused, and the backward pass raises
# "Expected to mark a variable ready only once". A plain dict, or find_unused_parameters=False, trains.
source "$(dirname "$0")/_run.sh"
in_environment sentence-transformers==6.2.0 torch==2.13.0 transformers==5.23.0 <<'PROGRAM'
import os

import torch
from sentence_transformers import CrossEncoder
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn.parallel import DistributedDataParallel
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

backend = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "river": 2, "engine": 3}, unk_token="[UNK]"))
backend.pre_tokenizer = pre_tokenizers.Whitespace()
PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]").save_pretrained("model")
shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
BertForSequenceClassification(BertConfig(vocab_size=4, num_labels=1, **shape)).save_pretrained("model")
os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "29577"}
torch.distributed.init_process_group("gloo", rank=0, world_size=1)


def outcome(*, find_unused, plain):
    model = CrossEncoder("model", device="cpu")
    wrapped = DistributedDataParallel(model, find_unused_parameters=find_unused, broadcast_buffers=False)
    features = model.preprocess([("river", "engine")])
    try:
        wrapped(dict(features) if plain else features)["scores"].sum().backward()
    except RuntimeError as error:
        return str(error)[:48]
    return "trains"


found = {
    (find_unused, plain): outcome(find_unused=find_unused, plain=plain)
    for find_unused in (True, False)
    for plain in (False, True)
}
print(found)
refused = "Expected to mark a variable ready only once. Thi"
assert found == {(True, False): refused, (True, True): "trains", (False, False): "trains", (False, True): "trains"}
torch.distributed.destroy_process_group()
PROGRAM

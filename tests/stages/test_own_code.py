"""A base model that brings code of its own, whose author is trusted."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
from tests.stages.chat_endpoint import ChatEndpoint, run_values

from multigrain.config.file import parse_config
from multigrain.errors import ModelError
from multigrain.evaluation.labelling.queries import own_queries
from multigrain.evaluation.results import read_results
from multigrain.evaluation.stored import RESULTS_FILE
from multigrain.model.encoder import load
from multigrain.stages import run
from multigrain.stages.base import RunContext
from multigrain.stages.models import open_models

pytestmark = pytest.mark.usefixtures("api_key")

CODE = """
from transformers import BertConfig, BertModel

class OwnConfig(BertConfig):
    model_type = "own-bert"

class OwnBert(BertModel):
    config_class = OwnConfig
"""


@pytest.fixture
def own_bert(small_bert: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(small_bert, tmp_path / "own-bert"))
    (folder / "own_bert.py").write_text(CODE)
    path = folder / "config.json"
    names = {"AutoConfig": "own_bert.OwnConfig", "AutoModel": "own_bert.OwnBert"}
    values = {
        **json.loads(path.read_text()),
        "model_type": "own-bert",
        "architectures": ["OwnBert"],
        "auto_map": names,
    }
    path.write_text(json.dumps(values))
    return folder


def test_a_whole_run_trusts_what_the_config_trusts(
    tmp_path: Path, corpus_file: Path, own_bert: Path, endpoint: ChatEndpoint
) -> None:
    values = run_values(corpus_file, own_bert, endpoint.url)
    values["training"] |= {"candidates": {"tuned": {}}}
    with pytest.raises(ModelError, match="set trust_remote_code"):
        run(parse_config(values), tmp_path / "refused")
    assert not endpoint.prompts
    values["training"]["trust_remote_code"] = True
    values["audit"]["reference_model"] = str(own_bert)

    finished = run(parse_config(values), tmp_path / "run")

    for model in (finished.candidate_path("tuned"), finished.model_path):
        assert load(str(model), trust_remote_code=True).encode(["w1 w2"]).shape == (1, 32)
    asked = tmp_path / "asked.txt"
    asked.write_text("w1")
    chosen = read_results(finished.results_path / RESULTS_FILE).chosen
    models = partial(open_models, RunContext(parse_config(values), finished))
    assert set(own_queries(finished, asked, models, depth=1).rankings) == {"base", chosen}

"""One audited run whose writer sometimes needs a second try."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import SUBJECTS, VERBS
from tests.stages.chat_endpoint import ChatEndpoint, graded_answer, run_values

from multigrain.config.file import parse_config
from multigrain.stages import run_stages


def _answer(body: dict[str, Any]) -> str:
    """Prose at the first try for a third of the prompts; a query of one word for some, which the audit rejects."""
    first = next(message["content"] for message in body["messages"] if message["role"] == "user")
    draw = random.Random(first).random()
    if draw < 0.3 and len(body["messages"]) < 4:
        return "Let me see what would be a good query here."
    answer = graded_answer({**body, "messages": [{"role": "user", "content": first}]})
    return answer if draw < 0.8 else json.dumps({**json.loads(answer), "query": "w1"})


@pytest.fixture(scope="session")
def written_run(tmp_path_factory: pytest.TempPathFactory, small_bert: Path) -> Path:
    """Documents, rows and audit of sixty documents."""
    folder = tmp_path_factory.mktemp("writer")
    draw = random.Random(4)
    documents = [
        {
            "id": f"doc-{number}",
            "text": f"{SUBJECTS[number % 10]} {VERBS[number // 6]} "
            + " ".join(f"w{draw.randrange(200)}" for _ in range(20)),
        }
        for number in range(60)
    ]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, documents)), encoding="utf-8")
    serving = ChatEndpoint()
    serving.answer = _answer
    values = run_values(folder / "corpus.jsonl", small_bert, serving.url, max_tokens=64)
    # The reference is random: what it would say of levels is noise.
    values["audit"]["checks"] = {"level_order": False, "false_negatives": False}
    values["evaluation"]["queries"] = "none"
    values["evaluation"]["sets"] = []
    values["synthesis"]["unfit_share"] = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "sk-secret-of-the-test")
        run_stages(parse_config(values), folder / "run", ["documents", "synthesis", "audit"])
    serving.close()
    return folder / "run"

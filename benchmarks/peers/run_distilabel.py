"""Rows by distilabel: one text generation over a list of prompts, parsed by the same model of an answer."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


def main(url: str, inputs: str, out: str, concurrency: int) -> None:
    """Write the rows; the pipeline's cache is used where it is started again."""
    folder = Path(out)
    os.environ |= {"OPENAI_API_KEY": "none", "DISTILABEL_CACHE_DIR": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    from distilabel.models import OpenAILLM
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts
    from distilabel.steps.tasks import TextGeneration
    from pydantic import BaseModel, ValidationError

    class Row(BaseModel):
        query: str
        level_4: str
        level_3: str
        level_2: str
        level_1: str

    with Path(inputs).open(encoding="utf-8") as stream:
        rows: list[dict[str, Any]] = [json.loads(line) for line in stream]
    data = [{"id": row["id"], "system_prompt": row["system"], "instruction": row["user"]} for row in rows]
    with Pipeline(name="rows", cache_dir=folder / "cache") as pipeline:
        load = LoadDataFromDicts(data=data, batch_size=concurrency)
        write = TextGeneration(
            llm=OpenAILLM(
                model="stub",
                base_url=url,
                api_key="none",
                generation_kwargs={"max_new_tokens": 768, "temperature": 0.8, "top_p": 0.9},
            ),
            input_batch_size=concurrency,
        )
        load >> write
    written = pipeline.run(use_cache=True)["default"]["train"]
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as stream:
        for row in written:
            try:
                answer = Row.model_validate_json(row["generation"] or "")
            except ValidationError:
                continue
            stream.write(json.dumps({"id": row["id"], "query": answer.query}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]))

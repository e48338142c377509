"""Rows by bespokelabs-curator: an `LLM` with a response format, its cache in the output folder."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


def main(url: str, inputs: str, out: str, concurrency: int) -> None:
    """Write the rows; started again, the cache of the folder is used."""
    folder = Path(out)
    os.environ |= {
        "CURATOR_CACHE_DIR": str(folder / "cache"),
        "OPENAI_API_KEY": "none",
        "TELEMETRY_ENABLED": "0",
        "CURATOR_DISABLE_RICH_DISPLAY": "1",
        "HOSTED_CURATOR_VIEWER": "0",
    }
    import litellm

    # It counts tokens by tiktoken, which fetches its tables where it does not find them; litellm brings them along.
    os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(litellm.__file__).parent / "litellm_core_utils" / "tokenizers")
    from bespokelabs import curator
    from datasets import Dataset
    from pydantic import BaseModel

    class Row(BaseModel):
        query: str
        level_4: str
        level_3: str
        level_2: str
        level_1: str

    class Writer(curator.LLM):
        response_format = Row

        def prompt(self, row: dict[str, Any]) -> list[dict[str, str]]:
            return [{"role": "system", "content": row["system"]}, {"role": "user", "content": row["user"]}]

        def parse(self, row: dict[str, Any], response: Row) -> dict[str, str]:
            return {"id": row["id"], "query": response.query}

    with Path(inputs).open(encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    data = Dataset.from_list([{name: row[name] for name in ("id", "system", "user")} for row in rows])
    writer = Writer(
        model_name="gpt-4o-mini",  # of another name it does not believe that it follows a schema
        backend="openai",
        generation_params={"temperature": 0.8, "top_p": 0.9, "max_tokens": 768},
        backend_params={
            "base_url": url,
            "api_key": "none",
            "max_requests_per_minute": 10_000_000,
            "max_tokens_per_minute": 10_000_000_000,
            "max_concurrent_requests": concurrency,
            "require_all_responses": False,
        },
    )
    response = writer(data)
    written = response if isinstance(response, Dataset) else response.dataset
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as stream:
        for row in written:
            stream.write(json.dumps({"id": row["id"], "query": row["query"]}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]))

"""Rows by data-designer: one structured column over a seed data set."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main(url: str, inputs: str, out: str, concurrency: int) -> None:
    """Write the rows."""
    os.environ |= {"NEMO_TELEMETRY_ENABLED": "false", "STUB_API_KEY": "none"}
    import data_designer.config as dd
    import pandas as pd
    from data_designer.config.run_config import ResumeMode
    from data_designer.interface import DataDesigner
    from pydantic import BaseModel

    class Row(BaseModel):
        query: str
        level_4: str
        level_3: str
        level_2: str
        level_1: str

    folder = Path(out)
    with Path(inputs).open(encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    seeds = folder / "seeds.parquet"
    if not seeds.exists():
        pd.DataFrame([{name: row[name] for name in ("id", "system", "user")} for row in rows]).to_parquet(seeds)
    model = dd.ModelConfig(
        alias="writer",
        model="stub",
        provider="stub",
        inference_parameters=dd.ChatCompletionInferenceParams(
            temperature=0.8, top_p=0.9, max_tokens=768, max_parallel_requests=concurrency
        ),
    )
    builder = dd.DataDesignerConfigBuilder(model_configs=[model])
    builder.with_seed_dataset(dd.LocalFileSeedSource(path=str(seeds)))
    builder.add_column(
        dd.LLMStructuredColumnConfig(
            name="row",
            model_alias="writer",
            system_prompt="{{ system }}",
            prompt="{{ user }}",
            output_format=Row,
        )
    )
    designer = DataDesigner(
        artifact_path=folder / "artifacts",
        model_providers=[dd.ModelProvider(name="stub", endpoint=url, provider_type="openai", api_key="STUB_API_KEY")],
    )
    # Without `resume` a second start begins again.
    done = designer.create(builder, num_records=len(rows), dataset_name="rows", resume=ResumeMode.IF_POSSIBLE)
    written = done.load_dataset()
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as stream:
        for identifier, row in zip(written["id"], written["row"], strict=True):
            stream.write(json.dumps({"id": identifier, "query": row["query"]}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]))

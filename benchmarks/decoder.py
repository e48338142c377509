"""SmolLM2-135M-Instruct as a transformers folder: `python -m benchmarks.decoder benchmarks/data/smollm2`."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.train_bases import smollm2


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decoder", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=0, help="keep this many layers (0: all 30)")
    given = parser.parse_args(arguments)
    smollm2(given.folder, given.layers)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

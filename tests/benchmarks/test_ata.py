"""The ATA benchmarks: their arithmetic, and that they run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import ata_cost, ata_parity


def test_parity_prints_one_object_and_fails_beyond_its_limit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        ata_parity, "ARCHITECTURES", {name: ata_parity.ARCHITECTURES[name] for name in ("bert", "llama")}
    )
    monkeypatch.setattr(ata_parity, "BATCHES", ([9, 4],))
    monkeypatch.setattr(sys, "argv", ["ata_parity.py", "--json"])
    assert ata_parity.main() == 0
    printed = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert printed["architectures"].keys() == {"bert", "llama"}
    assert printed["worst"] == max(printed["architectures"].values())
    assert 0 < printed["worst"] < 1e-4
    monkeypatch.setattr(ata_parity, "LIMIT", 0.0)
    assert ata_parity.main() == 1


def test_interval_holds_its_median() -> None:
    values = np.random.default_rng(0).normal(1.0, 0.1, 15)
    middle, low, high = ata_cost.interval(values)
    assert middle == np.median(values)
    assert low < middle < high
    assert ata_cost.interval(np.full(5, 1.25)) == (1.25, 1.25, 1.25)


def test_a_ratio_is_above_one_where_more_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    matrix = np.random.default_rng(0).random((200, 200))
    middle, _, _ = ata_cost.ratio("twice", lambda: [matrix @ matrix for _ in range(40)], lambda: [matrix @ matrix], 5)
    assert middle > 2
    assert "twice" in capsys.readouterr().err


def test_limits_are_found_at_every_depth() -> None:
    report = ata_cost.split(
        {"ratio_12_layers": {"128": (1.01, 1.0, 1.02)}, "bf16": {"training_ratio": (1.2, 1.1, 1.3)}}
    )
    assert report["ratio_12_layers"] == {"128": 1.01}
    assert report["intervals"]["bf16"]["training_ratio"] == [1.1, 1.3]
    assert list(ata_cost.flat(report)) == [("ratio_12_layers", 1.01), ("training_ratio", 1.2)]


@pytest.mark.slow
def test_timings_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = ata_cost.save_twelve_layers(tmp_path)
    monkeypatch.setattr(ata_cost, "MINILM", folder)
    monkeypatch.setattr(ata_cost, "BATCHES", {8: 32})
    monkeypatch.setattr(ata_cost, "ATTENTION_BATCHES", {8: 8})
    figures = ata_cost.timings(folder, 1, quick=True, bf16=True)
    assert figures.keys() == {"ratio_12_layers", "ratio_minilm_256", "ratio_output_attentions", "training_ratio"}
    assert all(value > 0 for _, value in ata_cost.flat(ata_cost.split(figures)))


def test_the_usual_way_pools_the_same(tmp_path: Path) -> None:
    """What output_attentions is timed at is what ATA computes."""
    folder = ata_cost.save_twelve_layers(tmp_path)
    with ata_cost.encoders(folder, bf16=False) as encode:
        ata, maps = encode("ata", 16, 2)()["sentence_embedding"], encode("maps", 16, 2)()
    np.testing.assert_allclose(ata.numpy(), maps.numpy(), atol=1e-5)

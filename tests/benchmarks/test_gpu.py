"""What is prepared for a GPU, tried on a CPU: every part with stand-ins, stopped, gone on with, failing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from benchmarks.whole_batches import WholeBatches

from benchmarks import gpu
from multigrain.llm.protocol import CompletionRequest, Message

COMMON = {"part", "arm", "seed", "stand_ins", "device", "torch", "took_seconds"}
TRAINED = {"model", "before", "after", "difference", "low", "high", "steps", "batch_size", "seconds"} | {
    "weights_that_learn",
    "by_query",
}
KEYS = {
    "ata-cost": {"ratio", "low", "high", "ata_seconds", "mean_seconds", "texts", "tokens", "pairs"},
    "decoder": TRAINED,
    "schedules": TRAINED | {"written_share"},
    "batch": TRAINED,
    "writer": {"rows_a_second", "rounds", "usable", "load_seconds", "runtime"},
}


def lines_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text(encoding="utf-8").splitlines()]


def counting(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Names of the units that are measured from now on."""
    measured: list[tuple[str, str]] = []
    measure = gpu.measure

    def counted(unit: gpu.Unit, place: gpu.Place) -> dict[str, Any]:
        measured.append((unit.part, unit.arm))
        return measure(unit, place)

    monkeypatch.setattr(gpu, "measure", counted)
    return measured


def test_every_part_runs_with_stand_ins_and_a_second_start_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = counting(monkeypatch)
    assert gpu.main([str(tmp_path), "--stand-ins", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    lines = lines_of(tmp_path)

    assert [line.get("failed") for line in lines] == [None] * len(lines)
    assert list(dict.fromkeys(line["part"] for line in lines)) == list(gpu.PARTS)
    for line in lines:
        assert line.keys() == COMMON | KEYS[line["part"]], line
    assert [line["arm"] for line in lines if line["part"] == "decoder"] == list(gpu.DECODERS)
    assert [line["arm"] for line in lines if line["part"] == "schedules"] == [
        f"stand-in/{schedule}" for schedule in gpu.SCHEDULES
    ]
    assert len(printed["results"]) == len(lines) == len(measured)
    assert printed["left"] == 0
    assert not any("by_query" in line for line in printed["results"])
    assert printed["means"]["batch"]["4"].keys() == {"after", "seeds"}
    assert printed["means"]["batch"]["16"].keys() == {"after", "seeds", "difference", "low", "high"}

    measured.clear()
    assert gpu.main([str(tmp_path), "--stand-ins"]) == 0
    assert measured == []
    assert lines_of(tmp_path) == lines

    # A kill while the third line was written, and before the last one was.
    written = (tmp_path / "results.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "results.jsonl").write_bytes(b"".join(written[:3] + written[4:-1]) + written[-1][:20])
    assert gpu.main([str(tmp_path), "--stand-ins"]) == 0
    assert measured == [(lines[3]["part"], lines[3]["arm"]), (lines[-1]["part"], lines[-1]["arm"])]
    assert sorted((line["part"], line["arm"]) for line in lines_of(tmp_path)) == sorted(
        (line["part"], line["arm"]) for line in lines
    )


def broken() -> dict[str, Any]:
    raise RuntimeError("CUDA out of memory.\nTried to allocate too much")


def test_a_unit_that_fails_is_written_and_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(place: gpu.Place) -> Iterable[gpu.Unit]:
        raise gpu.MissingError("needs what is not there")

    def one(place: gpu.Place) -> Iterable[gpu.Unit]:
        return [gpu.Unit("one", "bad", 1, broken), gpu.Unit("one", "good", 1, lambda: {"value": 1})]

    monkeypatch.setattr(gpu, "PARTS", {"lacking": lacking, "one": one})
    measured = counting(monkeypatch)
    command = [str(tmp_path), "--stand-ins"]

    gpu.main(command)
    bad, good = lines_of(tmp_path)
    assert bad["failed"] == "RuntimeError: CUDA out of memory. Tried to allocate too much"
    assert good["value"] == 1
    gpu.main(command)
    assert [arm for _, arm in measured] == ["bad", "good"]
    gpu.main([*command, "--retry"])
    assert [arm for _, arm in measured] == ["bad", "good", "bad"]
    assert len(lines_of(tmp_path)) == 3


def test_an_interrupted_unit_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped() -> dict[str, Any]:
        raise KeyboardInterrupt

    units = [gpu.Unit("one", "first", 1, dict), gpu.Unit("one", "second", 1, stopped)]
    monkeypatch.setattr(gpu, "PARTS", {"one": lambda place: units})
    with pytest.raises(KeyboardInterrupt):
        gpu.main([str(tmp_path), "--stand-ins"])
    assert [line["arm"] for line in lines_of(tmp_path)] == ["first"]


def test_no_unit_is_started_beyond_the_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    units = [gpu.Unit("one", str(number), 1, dict) for number in range(3)]
    monkeypatch.setattr(gpu, "PARTS", {"one": lambda place: units})
    gpu.main([str(tmp_path), "--stand-ins", "--budget-seconds", "0", "--json"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["left"] == 3
    assert not (tmp_path / "results.jsonl").exists()


def test_parts_that_lack_something_say_so_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu.Place, "device", "cpu")
    gpu.main([str(tmp_path), "--only", "schedules", "writer"])
    first, second = capsys.readouterr().err.splitlines()
    assert first == "schedules: skipped: needs --dataset FOLDER with graded.parquet and a BEIR set"
    assert second == "writer: skipped: needs --writer MODEL, a folder or a GGUF file"


def test_requests_that_wait_are_answered_together() -> None:
    sizes = []

    def answer(requests: Sequence[CompletionRequest]) -> list[tuple[str, int, bool]]:
        sizes.append(len(requests))
        return [(each.messages[0].content.upper(), 1, True) for each in requests]

    async def ask() -> list[str]:
        client = WholeBatches("loud", answer, largest=3)
        requests = [CompletionRequest((Message("user", word),)) for word in "abcde"]
        return [each.text for each in await asyncio.gather(*map(client.complete, requests))]

    assert asyncio.run(ask()) == list("ABCDE")
    assert sizes == [3, 2]

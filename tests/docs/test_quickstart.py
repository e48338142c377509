"""The quickstart notebook: kept without outputs, and true from its first cell to its last."""

from __future__ import annotations

import asyncio
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from multigrain.storage.rundir import RunDirectory

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "quickstart.ipynb"


def read() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_kept_without_outputs() -> None:
    code = [cell for cell in read().cells if cell.cell_type == "code"]

    assert code
    assert [cell for cell in code if cell.outputs or cell.execution_count is not None] == []


@pytest.mark.slow
@pytest.mark.timeout(1800)  # minutes on an idle machine
def test_it_runs_to_a_tuned_model_and_a_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    notebook = read()
    client = NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}})

    asyncio.run(client.async_execute())

    pages = {
        cell.source: output.data["text/html"]
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "text/html" in output.get("data", {})
    }
    assert "graded rows" in pages["multigrain.describe(run)"]
    assert "Compared with base" in pages["multigrain.compare(run)"]
    run = RunDirectory(tmp_path / "runs" / "quickstart")
    assert run.report_path.is_file()
    assert (run.model_path / "modules.json").is_file()

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from multigrain.report import load_report_data, render_report
from multigrain.report.reproduction import command_folder, relative_path, with_relative_paths
from multigrain.storage.rundir import RunDirectory

HOME = Path("/home/ada/help")


def test_paths_are_seen_from_the_folder_that_holds_runs(tmp_path):
    assert command_folder(tmp_path / "runs" / "config") == tmp_path.resolve()
    assert command_folder(tmp_path / "elsewhere" / "config") == (tmp_path / "elsewhere").resolve()


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/home/ada/help/handbook", "handbook"),
        ("/home/ada/texts", "../texts"),
        ("/srv/texts", "/srv/texts"),
        ("handbook", "handbook"),
        ("~/texts", "~/texts"),
        ("docstrings of installed packages", "docstrings of installed packages"),
    ],
)
def test_a_path_is_relative_where_it_can_be(path, shown):
    assert relative_path(path, HOME) == shown


def test_a_config_keeps_everything_but_the_way_to_its_paths():
    config = (
        "# kept\ndocuments:\n  path: /home/ada/help/handbook\nllm:\n  base_url: http://localhost/home/ada/help\n"
        "sets:\n- path: '/home/ada/help/a b.jsonl'\n- /home/ada/help/c\nnote: see /home/ada/help/d\n"
    )
    shown = with_relative_paths(config, HOME)
    assert shown.startswith("# kept\n")
    assert yaml.safe_load(shown) == {
        "documents": {"path": "handbook"},
        "llm": {"base_url": "http://localhost/home/ada/help"},
        "sets": [{"path": "a b.jsonl"}, "c"],
        "note": "see /home/ada/help/d",
    }


def test_the_page_says_where_the_documents_must_be_and_not_where_they_were(own_run, tmp_path):
    run = RunDirectory(own_run.path.rename(_made(tmp_path / "a place" / "runs") / "config"))
    folder = tmp_path / "a place" / "handbook"
    text = run.config_path.read_text().replace("  kind: docstrings\n", f"  kind: folder\n  path: {folder}\n")
    run.config_path.write_text(text)
    manifest = run.path / "documents" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("docstrings of installed packages", str(folder)))

    data = load_report_data(run)
    page = render_report(data)

    assert data.reproduction.config == text  # the card looks models up by it
    assert str(tmp_path) not in page
    assert "path: handbook" in page
    assert '<code class="name">handbook</code>, seen from the folder with' in page
    assert "documents (handbook)" in page
    assert "multigrain audit runs/config " in page


def test_a_run_s_path_is_quoted_for_the_shell(own_run, tmp_path):
    run = RunDirectory(own_run.path.rename(_made(tmp_path / "runs") / "it's $HOME"))
    assert load_report_data(run).reproduction.run == "'runs/it'\"'\"'s $HOME'"


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder

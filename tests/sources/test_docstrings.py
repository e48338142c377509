"""Docstrings of installed packages, read by several processes."""

import gc

import pytest

from multigrain.sources import docstrings
from multigrain.sources.docstrings import read_docstrings


def test_processes_read_what_one_reads_and_in_its_order(monkeypatch):
    by_several = read_docstrings(())
    monkeypatch.setattr(docstrings, "_FILES_A_TASK", 10**6)  # one task is done here
    assert read_docstrings(()) == by_several
    assert len({document.text for document in by_several}) == len(by_several) > 100


@pytest.mark.parametrize("collected", [True, False])
def test_the_garbage_collector_is_left_as_it_was(collected):
    before = gc.isenabled()
    try:
        (gc.enable if collected else gc.disable)()
        with docstrings._without_collector():
            assert not gc.isenabled()
        assert gc.isenabled() == collected
    finally:
        (gc.enable if before else gc.disable)()

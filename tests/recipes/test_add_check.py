"""A throw-away audit check, added as CONTRIBUTING.md says, and one of another package."""

from __future__ import annotations

from pathlib import Path

from tests.installed import install

from .conftest import Checkout

FUNCTION = """
def _river(checked: CheckedText) -> Problem | None:
    return Problem("wet", checked.text[:80]) if "river" in checked.words else None


"""
ENTRY = '    Check("river", {"wet": "is about a river"}, query=_river, negative=_river),\n'
FIELD = '    river: bool = True\n    """Texts about rivers."""\n\n'
ASK = """
from multigrain.audit.checks import check_row, reason_words
from multigrain.config.file import parse_config
from multigrain.config.template import chosen_settings, full_template
from multigrain.errors import ConfigError
from multigrain.records import SynthesizedRow

row = SynthesizedRow("r", "d", "where is the river", "It is here.")
on, off = (parse_config({"audit": {"checks": {"river": switch}}}).audit for switch in (True, False))
try:
    parse_config({"audit": {"checks": {"rivr": True}}})
except ConfigError as error:
    refused = str(error)
print(json.dumps({
    "from": packages_of("check").get("river"),
    "problems": [check_row(row, on).reason, check_row(row, off)],
    "words": reason_words("wet"),
    "refused": refused,
    "init": "river: true" in full_template(chosen_settings(documents="d", provider="local")),
}))
"""


def test_a_check_is_added_in_two_files(checkout: Checkout, corpus_file: Path, small_bert: Path) -> None:
    checkout.insert("audit/checks.py", "# In the order in which they are asked.", FUNCTION.lstrip())
    checkout.insert("audit/checks.py", '    Check("decontamination"', ENTRY)
    checkout.insert("config/audit.py", "    near_duplicates: bool = True", FIELD)
    assert len(checkout.touched) == 2
    assert checkout.follows("audit check")

    told = checkout.evaluate(ASK)

    assert told["from"] == "multigrain"
    assert told["problems"] == ["wet", None]
    assert told["words"] == "is about a river"
    assert "did you mean 'river'?" in told["refused"]
    assert told["init"]
    checkout.configure(corpus_file, small_bert, synthesis={"strategy": "stepwise"}, audit={"negatives": "mined"})
    done = checkout.python("-m", "multigrain", "run", "config.yaml")
    assert "is about a river" in done.stderr
    for page in ("report.html", "model/README.md"):
        assert "is about a river" in (checkout.folder / "runs" / "config" / page).read_text(encoding="utf-8"), page


def test_another_package_brings_a_check_that_a_config_switches_on(checkout: Checkout) -> None:
    module = f"from multigrain import Check, CheckedText, Problem\n\n{FUNCTION}RIVER = {ENTRY.strip().rstrip(',')}\n"
    install(
        checkout.folder, "wet-checks", {"multigrain.checks": {"river": "wet_checks:RIVER"}}, {"wet_checks": module}
    )

    told = checkout.evaluate(ASK)

    assert not checkout.touched
    assert told["from"] == "wet-checks"
    assert told["problems"] == ["wet", None]
    assert told["words"] == "is about a river"
    assert "did you mean 'river'?" in told["refused"]
    assert not told["init"]

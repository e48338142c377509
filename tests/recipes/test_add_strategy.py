"""A throw-away strategy, added as CONTRIBUTING.md says."""

from __future__ import annotations

from .conftest import Checkout

MODULE = '''"""Queries that ask for the opposite."""

from __future__ import annotations

from dataclasses import dataclass

from multigrain.llm.protocol import LLMClient
from multigrain.records import SynthesizedRow
from multigrain.synthesis.strategies.protocol import WritingUnit
from multigrain.synthesis.strategies.writer import BuiltInStrategy, written_row


@dataclass(frozen=True)
class OppositeStrategy(BuiltInStrategy):
    """Asks for the query, and says not before it."""

    name = "opposite"

    async def write(self, unit: WritingUnit, client: LLMClient) -> SynthesizedRow:
        """Write one row in one call; see `Strategy.write`."""
        return written_row(self.name, unit, query=f"not {await self.writer.query(client, unit)}")
'''
ASK = """
import asyncio

from multigrain import Document, LLMConfig, ScriptedLLM, SynthesisConfig, WritingUnit, build_strategy
from multigrain.config.file import parse_config
from multigrain.config.template import chosen_settings, full_template
from multigrain.errors import ConfigError

strategy = build_strategy(SynthesisConfig(strategy="opposite"), LLMConfig(), seed=0)
row = asyncio.run(strategy.write(WritingUnit(Document("d", "A text.")), ScriptedLLM(["to be"])))
refused = []
for values in (
    {"synthesis": {"strategy": {"oposite": 1, "mgh": 1}}},
    {"synthesis": {"strategy": "opposite"}, "audit": {"negatives": "written"}},
):
    try:
        parse_config(values)
    except ConfigError as error:
        refused.append(str(error))
print(json.dumps({
    "from": packages_of("strategy").get("opposite"),
    "row": [row.strategy, row.query],
    "refused": refused,
    "init": "opposite: the query" in full_template(chosen_settings(documents="d", provider="local")),
}))
"""


def test_a_strategy_is_added_in_two_files(checkout: Checkout) -> None:
    checkout.write("synthesis/strategies/opposite.py", MODULE)
    entry = '        "opposite": f"{_HOME}.opposite:OppositeStrategy.from_settings",\n'
    checkout.insert("config/synthesis.py", '        "over-generate":', entry)
    words = "opposite: the query with not before it.\n    "
    checkout.insert("config/synthesis.py", "mined-bands: the query alone is written.", words)
    checkout.insert("config/synthesis.py", '"paraphrase", "single"})', '"opposite", ')
    assert len(checkout.touched) == 2
    assert checkout.follows("strategy")

    told = checkout.evaluate(ASK)

    assert told["from"] == "multigrain"
    assert told["row"] == ["opposite", "not to be"]
    assert "did you mean 'opposite'?" in told["refused"][0]
    assert "leaves levels to be mined" in told["refused"][1]
    assert told["init"]

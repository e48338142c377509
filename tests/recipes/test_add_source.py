"""A throw-away data source, added as CONTRIBUTING.md says."""

from __future__ import annotations

from .conftest import Checkout

MODULE = '''"""Paragraphs of one text file."""

from __future__ import annotations

from collections.abc import Iterator

from multigrain.config import DocumentsConfig
from multigrain.records import Document
from multigrain.sources.source import DataSource


class ParagraphSource(DataSource):
    """A document a paragraph of one text file."""

    def read(self, config: DocumentsConfig) -> tuple[Iterator[Document], int]:
        """Read the paragraphs."""
        paragraphs = config.path.read_text().split("\\n\\n")
        return (Document(f"p{number}", text) for number, text in enumerate(paragraphs)), 0


PARAGRAPHS = ParagraphSource()
'''
ASK = """
from pathlib import Path

from multigrain.config.file import parse_config
from multigrain.config.template import chosen_settings, full_template
from multigrain.errors import ConfigError
from multigrain.sources.source import data_source, look_at_input
from multigrain.sources.load import load_corpus

path = Path("notes.txt")
config = parse_config({"documents": {"kind": "paragraphs", "path": str(path.absolute())}})
corpus = load_corpus(config.documents, seed=1)
look, before = look_at_input(config), data_source(config.documents).fingerprint(config.documents)
refused = []
for documents in ({"kind": "paragraps", "path": str(path)}, {"kind": "paragraphs"}):
    try:
        parse_config({"documents": documents})
    except ConfigError as error:
        refused.append(str(error))
path.write_text("changed")
print(json.dumps({
    "from": packages_of("data source").get("paragraphs"),
    "ids": sorted(document.id for document in corpus.documents),
    "look": look.summary,
    "fingerprint changes": data_source(config.documents).fingerprint(config.documents) != before,
    "refused": refused,
    "init": "docstrings, paragraphs" in " ".join(
        full_template(chosen_settings(documents="d", provider="local")).replace("#", " ").split()
    ),
}))
"""
PARAGRAPHS = "\n\n".join(f"Paragraph {n} tells of thing {n * 7} and no other one at all." for n in range(20))


def test_a_data_source_is_added_in_two_files(checkout: Checkout) -> None:
    checkout.write("sources/paragraphs.py", MODULE)
    entry = '        "paragraphs": "multigrain.sources.paragraphs:PARAGRAPHS",\n'
    checkout.insert("config/documents.py", '        "docstrings": "multigrain.sources', entry)
    checkout.insert("config/documents.py", " (of installed Python packages", ", paragraphs")
    assert len(checkout.touched) == 2
    assert checkout.follows("data source")
    (checkout.folder / "notes.txt").write_text(PARAGRAPHS)
    (checkout.folder / "config.yaml").write_text(
        "documents: {kind: paragraphs, path: notes.txt}\nllm: {provider: scripted}\n"
    )
    assert "Paragraph" in checkout.multigrain("synthesize", "config.yaml", "--dry-run")

    answers = checkout.evaluate(ASK)

    assert answers["from"] == "multigrain"
    assert answers["ids"] == sorted(f"p{number}" for number in range(20))
    assert "20 documents" in answers["look"]
    assert answers["fingerprint changes"]
    assert "did you mean 'paragraphs'?" in answers["refused"][0]
    assert "needs a path" in answers["refused"][1]
    assert answers["init"]

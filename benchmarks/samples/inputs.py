"""What every strategy is given: documents, few-shot examples, and tasks for models that think of none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from multigrain.config import LLMConfig
from multigrain.config.synthesis import STRATEGIES
from multigrain.records import Document, TaskKind
from multigrain.synthesis.few_shot import Demonstration

SEED: Final = 13
LLM: Final = LLMConfig(temperature=0.2, max_tokens=512)
"""Models of this size wander when they are sampled hotter."""

SELECTORS: Final = ("fixed", "balanced", "likelihood")

VARIANTS: Final[Mapping[str, Mapping[str, Any]]] = {
    **{name: {"strategy": name} for name in STRATEGIES.built_in},
    "paraphrase, of the query": {"strategy": "paraphrase", "paraphrase": "query"},
    "mgh, positive written": {"strategy": "mgh", "positive": "written"},
}
"""Ways of asking about a document, each with its settings."""

OWN_TASKS: Final[Mapping[TaskKind, str]] = {
    TaskKind.SHORT_LONG: "Given a question about a kitchen machine, find the page of its manual that answers it.",
    TaskKind.LONG_SHORT: "Given a letter to a landlord, find the matter that it is about.",
    TaskKind.SHORT_SHORT: "Given the name that gardeners use for a plant, find its botanical name.",
    TaskKind.LONG_LONG: "Given the report of an accident at work, find another accident with the same cause.",
    TaskKind.STS: "Compare sentences from hiking guides by their meaning.",
    TaskKind.BITEXT: "Match sentences from museum signs with their translations.",
}
"""A task for each kind, where the model thought of none that is usable."""

TASKS_ASKED_FOR: Final = 3
LONGEST_DOCUMENT: Final = 50
"""Words of a written document: five of 500 words are beyond one core's patience, and a small model's context."""

DOCUMENTS: Final = (
    Document(
        "relief-valve",
        "The relief valve on the boiler opens when the steam pressure rises above nine bar and closes again at eight. "
        "Test it every Monday by lifting the brass lever for two seconds; steam must escape at once. If the lever "
        "sticks, shut the burner down, let the boiler cool, and replace the spring. Never tie the lever down.",
    ),
    Document(
        "log-rotation",
        "Logs are rotated each night at two o'clock. The old file is compressed and kept for thirty days; after that "
        "it is deleted. To keep the logs of one service longer, set keep_days in its section of rotate.conf and send "
        "the rotation daemon a HUP signal. A value of zero keeps them for ever, so watch the disk.",
    ),
    Document(
        "late-returns",
        "Books that come back late cost twenty cents a day, up to the price of the book. Children pay nothing. If you "
        "were ill, bring a doctor's note within two weeks and the fee is waived. Whoever owes more than ten euros "
        "cannot borrow anything until it is paid at the desk on the ground floor.",
    ),
)

EXAMPLES: Final = (
    Demonstration(
        kind="procedure",
        document="To bleed a radiator, turn the heating off, hold a cloth under the valve and open it a quarter turn "
        "with the key. Close it when water comes instead of air.",
        query="radiator gurgles and stays cold at the top",
        level_4="To bleed the brakes of a bicycle, hold a cloth under the caliper, open the screw a quarter turn and "
        "close it when fluid comes instead of air.",
        level_3="A radiator gives off about a hundred watts for each of its ribs. Leave ten centimetres of room "
        "between it and the wall.",
        level_2="A heat pump takes warmth from the outside air and needs about a third of the power that an electric "
        "heater would.",
        level_1="The town's choir sings on the second Sunday of each month. Guests are welcome at rehearsals.",
    ),
    Demonstration(
        kind="rule",
        document="Season tickets are valid on all trams and buses of zones A and B. Bicycles need a ticket of their "
        "own from six to nine in the morning.",
        query="can I take my bike on the tram before work",
        level_4="Season tickets are valid on all ferries of the harbour. Dogs need a ticket of their own from six to "
        "nine in the morning.",
        level_3="Trams of line 4 run every six minutes before noon and every ten minutes after it.",
        level_2="The new tram depot was built in two years and has room for sixty vehicles.",
        level_1="Whisk the eggs with the sugar until they are pale, then fold in the flour.",
    ),
    Demonstration(
        kind="fact",
        document="The old lighthouse is forty metres high. Its lamp, first lit in 1871, was run on rape oil until the "
        "power line came in 1926.",
        query="what did the lighthouse burn before electricity",
        level_4="The old mill is twelve metres high. Its wheel, first turned in 1871, ran on water until the power "
        "line came in 1926.",
        level_3="The lighthouse keeper's cottage has been a museum since 1994 and opens at ten.",
        level_2="Ships that pass the cape at night report their position by radio every hour.",
        level_1="Choose shoes with a stiff sole, and lace them more tightly for the way down.",
    ),
)

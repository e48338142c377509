"""What teachers behind embedding endpoints cost."""

from __future__ import annotations

from multigrain.config import Config, PriceConfig, TeacherConfig
from multigrain.encoders.served import SERVED, served_name
from multigrain.llm.prices import price_of


def is_served(teacher: TeacherConfig) -> bool:
    """Whether a teacher is an embedder behind an endpoint."""
    return teacher.model.startswith(SERVED) and not teacher.is_judge and teacher.kind != "cross-encoder"


def embedding_price(config: Config, teacher: TeacherConfig) -> PriceConfig | None:
    """The price of a served embedder's tokens, by `llm.prices` or the built-in table; None where nobody has said."""
    name, address = served_name(teacher.model)
    return price_of(name, base_url=address, prices=config.llm.prices)

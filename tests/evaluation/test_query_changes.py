from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from multigrain.evaluation.per_query import QueryRow
from multigrain.evaluation.query_changes import QueryChange, summarise_changes


def row(ndcg: float, rank: int | None = None, top: str = "wrong", query_id: str = "q") -> QueryRow:
    return QueryRow("s", "model", query_id, "ask", ndcg, 1.0, rank, (top,), ("right",))


scores = st.floats(0, 1).map(lambda value: round(value, 3))


@given(st.lists(st.tuples(scores, scores), min_size=1, max_size=60))
def test_every_query_is_better_same_or_worse_and_the_lists_agree(pairs: list[tuple[float, float]]) -> None:
    changes = [
        QueryChange(row(before, query_id=str(place)), row(after, query_id=str(place)))
        for place, (before, after) in enumerate(pairs)
    ]
    moved = summarise_changes(changes, limit=6)
    assert moved.better == sum(after > before for before, after in pairs)
    assert moved.worse == sum(after < before for before, after in pairs)
    assert moved.total == len(pairs)
    rises = [each.change for each in moved.wins]
    falls = [each.change for each in moved.losses]
    assert rises == sorted(rises, reverse=True)
    assert falls == sorted(falls)
    assert all(change > 0 for change in rises)
    assert all(change < 0 for change in falls)
    if rises:
        assert rises[0] == max(after - before for before, after in pairs)


def test_the_wrong_document_is_the_one_that_the_poorer_model_put_first() -> None:
    win = QueryChange(row(0.2, 4, "a", "win"), row(1.0, 1, "right", "win"))
    loss = QueryChange(row(1.0, 1, "right", "loss"), row(0.3, 5, "b", "loss"))
    moved = summarise_changes([win, loss], limit=6)
    assert (moved.wins, moved.losses) == ((win,), (loss,))
    assert (win.wrong_id, loss.wrong_id) == ("a", "b")
    assert QueryChange(row(0.5, 2, "right"), row(1.0, 1, "right")).wrong_id is None
    assert (moved.base_first, moved.model_first) == (1, 1)

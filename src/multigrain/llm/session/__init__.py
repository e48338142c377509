"""Paid completions: the journal that keeps them, the budget that limits them, and the session that asks for them."""

"""Paid completions: the journal that keeps them, and the budget that limits them."""

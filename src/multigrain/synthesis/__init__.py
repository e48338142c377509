"""From documents to written rows: prompts, strategies, parsing, and the journal that keeps every completion."""

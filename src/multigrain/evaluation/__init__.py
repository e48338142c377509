"""The proof: held-out queries, per-query metrics, paired intervals."""

"""A matrix of runs: what each choice bought, in one table."""

"""Which level at which step: pure schedules, and the batch sampler that follows them."""

"""Training data for the language model that writes, from what the audit kept and rejected; and its tuning."""

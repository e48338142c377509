"""People judge what models found, blind."""

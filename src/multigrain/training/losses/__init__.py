"""Losses: sentence-transformers' own where it has them, ours on its base classes, others' as plug-ins."""

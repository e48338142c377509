"""Tuning a candidate with the sentence-transformers trainer."""

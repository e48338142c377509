"""Evaluation sets of every kind, read into one form."""

"""Negatives from the corpus: embed it, rank it, take bands of ranks."""

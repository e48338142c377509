"""Exports of rerankers: a graph of pairs, its reader, and what is compared."""

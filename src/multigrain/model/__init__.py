"""Sentence-transformers models: build, load, tune, save; poolings, and attention that can be read."""

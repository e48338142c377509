"""Embedding models behind one protocol: loaded, cached, served."""

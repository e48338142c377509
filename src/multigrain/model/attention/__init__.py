"""Attention: what computes it, which way it looks, and how much of it every token receives."""

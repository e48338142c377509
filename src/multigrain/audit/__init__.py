"""Levels measured instead of believed: checks, repairs, and reasons for every row turned away."""

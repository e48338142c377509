"""Benchmark sets and speed comparisons, each with the command that reproduces it. No part of the package."""

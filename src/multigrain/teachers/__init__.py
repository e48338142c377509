"""Teachers: models that score the passages of graded rows, once, for losses that learn from scores."""

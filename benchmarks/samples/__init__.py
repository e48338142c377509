"""What `benchmarks/strategy_samples.py` is made of: what is asked about, the asking, and the page."""

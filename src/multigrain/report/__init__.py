"""One self-contained page: typed data first, then HTML."""

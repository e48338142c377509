"""Where work units run. The only package that knows."""

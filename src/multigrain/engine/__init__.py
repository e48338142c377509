"""Engines: where work units run, in this process or on a Ray cluster."""

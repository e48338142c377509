"""Files, tables and run directories."""

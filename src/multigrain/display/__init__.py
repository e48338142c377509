"""What a person reads: progress, tables, numbers."""

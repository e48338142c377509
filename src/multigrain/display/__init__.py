"""Output for people: progress, tables, numbers, safe lines, suggestions."""

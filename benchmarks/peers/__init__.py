"""Programs that write the same rows by other packages; each runs in an environment of that package."""

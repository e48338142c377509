"""Export targets: each module is the form of its name, and its `export` writes a model in that form."""

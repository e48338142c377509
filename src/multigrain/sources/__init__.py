"""Reading what a run starts from: documents, and models and data that arrive as packages."""

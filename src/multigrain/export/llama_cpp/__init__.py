"""Models as GGUF files, and llama.cpp that reads them again."""

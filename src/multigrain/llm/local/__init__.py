"""Embedded language models: one GGUF file, two runtimes, no server and no port."""

"""Encoders: build, load, save; attention received; anchor-token-aware pooling."""

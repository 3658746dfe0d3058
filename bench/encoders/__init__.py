"""Frozen encoders: which blocks, which tokens, which position-embedding rule, whose weights."""

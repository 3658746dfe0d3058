"""Datasets got, checked and looked at: what `bench data` does."""

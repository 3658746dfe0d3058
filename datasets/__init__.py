"""Datasets, one file a dataset; imported as `bench.datasets`."""

"""A method and a dataset for bench, found by entry points."""

"""Methods and a dataset for bench, found by entry points."""

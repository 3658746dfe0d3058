"""Pages of the documentation's site that are made from the code: methods, datasets, metrics; `make docs`."""

"""Planning of cells: methods, data, settings and weights brought together, beside what is done already."""

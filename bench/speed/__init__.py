"""How fast every method is on a workload of the real size, beside the plain way, and how far from what is possible."""

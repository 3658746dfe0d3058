"""Speed of every method on a workload of the real size, beside the plain way and what would be possible."""

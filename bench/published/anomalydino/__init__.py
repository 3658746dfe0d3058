"""Tables of the AnomalyDINO paper; see papers.toml."""

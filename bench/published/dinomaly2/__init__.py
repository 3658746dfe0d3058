"""Tables of the Dinomaly2 paper, as quoted; see papers.toml."""

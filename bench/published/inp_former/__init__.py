"""Tables of the INP-Former paper, as quoted; see papers.toml."""

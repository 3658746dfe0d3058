"""Tables of ADer's benchmark; see papers.toml."""

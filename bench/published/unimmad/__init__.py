"""Tables of the RAD paper; see papers.toml."""

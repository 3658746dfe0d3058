"""Tables of the SubspaceAD paper; see papers.toml."""

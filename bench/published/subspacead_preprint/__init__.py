"""Tables of SubspaceAD's preprint; see papers.toml."""

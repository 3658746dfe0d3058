"""Tables of the ViTAD paper; see papers.toml."""

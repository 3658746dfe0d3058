"""Tables of the GeneralAD paper; see papers.toml."""

"""Tables of the paper on two heterogeneous students (dual student); see papers.toml."""

"""Tables of Dinomaly's preprint of 2024 with its appendix; see papers.toml."""

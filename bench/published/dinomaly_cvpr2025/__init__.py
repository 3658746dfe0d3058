"""Tables of Dinomaly's CVPR 2025 paper; see papers.toml."""

"""Paper tables and smoke runs as runnable definitions (TOML)."""

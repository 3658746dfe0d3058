"""Records, checkpoints and where they came from."""

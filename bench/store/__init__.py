"""Records, checkpoints and where they came from."""

from pathlib import Path

RESULTS = Path("results/runs")
"""Where `bench run` puts records, and every other command looks for them."""

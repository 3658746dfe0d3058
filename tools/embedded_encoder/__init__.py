"""How the encoder that travels with the package was made: training scripts, run from tools/, not installed."""

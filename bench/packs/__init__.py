"""Reproduction packs: records with what their metrics follow from, and no image."""

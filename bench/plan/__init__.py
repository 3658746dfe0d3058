"""Cells planned: methods, data, settings and weights brought together, and what a results folder has of them."""

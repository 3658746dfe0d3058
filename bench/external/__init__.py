"""Anomaly maps and scores of other programs, scored under the same protocol."""

"""Checks and comparisons of records: has a score or a speed got worse, and which of two methods is better.

Reading order: series (what is compared), differences (what may be), tolerance (how far scores may move), verdicts,
baselines (where they lie), speed, output (JUnit XML, Markdown); paired (two methods side by side). Loads no torch.
"""

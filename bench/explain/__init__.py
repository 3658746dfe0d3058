"""Explanation of the gap between a recorded number and a published one, rule by rule."""

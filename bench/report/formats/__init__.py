"""Formats of a report: HTML, LaTeX, Markdown, CSV and Parquet, each a function of tables."""

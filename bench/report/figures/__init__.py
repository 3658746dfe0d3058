"""Figures of a report, by matplotlib without its global state: SVG that takes the page's colours, PDF for papers."""

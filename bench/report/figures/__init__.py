"""Figures of a report, by matplotlib without its global state: SVG that takes the page's colours, PDF for papers."""

from __future__ import annotations

import os

from bench.cache import cache_dir

# before matplotlib is imported: it would write its list of fonts below the user's home
os.environ.setdefault("MPLCONFIGDIR", str(cache_dir() / "matplotlib"))

"""Exports of finished records to trackers and model cards; none of these is needed to run bench."""

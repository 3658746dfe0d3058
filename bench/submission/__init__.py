"""Submissions to a benchmark's server: maps of unlabelled images, and the check that nothing of them is wrong."""

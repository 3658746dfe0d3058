"""Audit of a dataset: what its own images make doubtful about scores on it (`bench data audit`).

Reading order: dispute (what is found), copies (twins and near copies across splits), records (images that every method
gets wrong, scores without the disputed images), audit (all of it, class by class).
"""

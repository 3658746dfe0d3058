"""Prediction: a kept model on images that belong to no dataset."""

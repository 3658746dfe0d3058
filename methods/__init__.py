"""Anomaly-detection methods, one file a method; imported as `bench.methods`."""

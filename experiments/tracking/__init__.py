"""Tracking: runs, metrics, leases and weights in an MLflow store."""

"""Execution: a study's runs as jobs, shared out to workers of this machine or of a cluster."""

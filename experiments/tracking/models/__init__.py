"""Trained codecs in a tracking store: weights as MLflow models, brought back where a machine lacks them."""

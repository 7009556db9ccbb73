"""Figures, one kind a module; `catalogue` chooses those that a study has data for."""

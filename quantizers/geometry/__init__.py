"""Grids of the plane, lattices, their nearest points and figures of merit."""

"""Cells of grids, lattices and codebooks in the plane."""

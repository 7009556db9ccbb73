"""Statistics: intervals, paired tests, Bjøntegaard differences, power."""

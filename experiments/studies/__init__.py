"""Studies: YAML files read into checked models, and the runs and rates that they come to."""

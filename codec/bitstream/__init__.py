"""Real bits: a range coder of integers, models of the codes of a quantizer, and a container for files."""

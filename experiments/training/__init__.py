"""Training: one loop, its state, its observers, and the trained codec that it leaves."""

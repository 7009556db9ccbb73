"""Planning: what a study will do and cost, before anything is trained."""

"""The environment of all tests."""

import os

# Processes that run tests in parallel get the width of the terminal from their parent; outputs to a file have
# a width of their own, which tests look at.
os.environ.pop("COLUMNS", None)

"""Checks of any quantizer: the conformance suite, and known sources against Shannon's bound."""

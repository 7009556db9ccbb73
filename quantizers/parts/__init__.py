"""Parts that several methods share: channels, codebooks, gradients, packed codes."""

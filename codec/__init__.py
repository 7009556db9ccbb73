"""The fixed backbone: encoder, quantizer, decoder, and the losses that train them."""

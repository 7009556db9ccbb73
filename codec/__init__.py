"""The fixed codec of codecbench around a quantizer: encoder, quantizer, decoder.

`codec.model.build(codec.backbones.get("mdct-tiny"), make_quantizer, seed)` makes an untrained one.
`backbones` has encoders and decoders, `losses` what trains them, `references` codecs from outside.
`checkpoints` loads released weights, `inference` makes a trained codec faster.
"""

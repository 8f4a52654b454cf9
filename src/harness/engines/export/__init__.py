"""nn.Module -> ONNX graph: exported once, checked, cached, and made fp16 where a plan says so."""

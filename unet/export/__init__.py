"""Trained networks for other programs: ONNX, TorchScript, packages of bioimage.io."""

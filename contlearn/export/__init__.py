"""From a checkpoint to the ONNX model that is served, and the proof that they agree."""

"""The exported model, answered with onnxruntime and tokenizers alone: never torch."""

"""The same int8 model and tokenizer behind LitServe with its own batching; run by its own Python.

LITSERVE_PYTHON tests/benchmarks/litserve_server.py FOLDER PORT WORKERS BATCH TIMEOUT_SECONDS QUEUE
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import litserve
import numpy as np
import onnxruntime
from tokenizers import Tokenizer


class Model(litserve.LitAPI):
    """Tokenise, pad what came together, run, name the best class."""

    def setup(self, device):
        folder = Path(sys.argv[1])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2 if sys.argv[3] == "1" else 1
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self.names = [item.name for item in self.session.get_inputs()]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.enable_padding()
        self.labels = json.loads((folder / "manifest.json").read_bytes())["model"]["labels"]

    def decode_request(self, request):
        return request["texts"][0]

    def batch(self, inputs):
        return inputs

    def unbatch(self, output):
        return output

    def predict(self, texts):
        several = isinstance(texts, list)
        encodings = self.tokenizer.encode_batch(texts if several else [texts])
        ids = np.array([item.ids for item in encodings], dtype=np.int64)
        mask = np.array([item.attention_mask for item in encodings], dtype=np.int64)
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        logits = self.session.run(["logits"], {name: feed[name] for name in self.names})[0]
        scores = np.exp(logits - logits.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        answers = [(self.labels[int(row.argmax())], float(row.max())) for row in scores]
        return answers if several else answers[0]

    def encode_response(self, output):
        return {"predictions": [{"label": output[0], "confidence": output[1]}]}


if __name__ == "__main__":
    _, _, port, workers, batch, timeout, queue = sys.argv
    api = Model(max_batch_size=int(batch), batch_timeout=float(timeout))
    server = litserve.LitServer(
        api,
        accelerator="cpu",
        workers_per_device=int(workers),
        fast_queue=queue == "fast_queue",
        timeout=60,
    )
    server.run(
        host="127.0.0.1",
        port=int(port),
        generate_client_file=False,
        log_level="error",
        pretty_logs=False,
    )

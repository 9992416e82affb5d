from __future__ import annotations

import subprocess
import sys


def test_the_server_loads_no_torch_and_following_loads_no_onnxruntime():
    code = (
        "import sys; import contlearn.serving.app, contlearn.serving.http.server;"
        "print(sorted({'torch', 'transformers', 'avalanche', 'onnxruntime', 'sklearn'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

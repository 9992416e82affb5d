"""The program in a process of its own that need not import anything: a fork of a warm one.

Nearly all that an update of a tiny model costs is the import of torch and transformers, once for
each test. Here they are imported once a session by a server, which forks. Everything else is as in
`python -m contlearn`: a real process with its pid, its exit code and its signals, whose children
are real children of it. What is said of starting, importing or memory is tried with the program
itself (`Program.popen`, and the tests of the architecture).

The fork of a program makes `SPARES` forks of its own before anything runs. Such a spare waits and
becomes the child that `run_child` starts, so that it carries no thread, lock or connection.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import gc
import importlib
import json
import os
import random
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
import types
from pathlib import Path

from contlearn.plugins.manager import PluginManager

SPARES = 5
MODULES = (
    "torch",
    "contlearn.modeling.auto_classes",
    "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert_fast",
    "rich.progress",
    "safetensors.numpy",
    "contlearn.cli.reports",
    "contlearn.cli.update",
    "contlearn.cycle.child",
    "contlearn.cycle.held_out",
    "contlearn.cycle.material",
    "contlearn.cycle.scanning",
    "contlearn.cycle.update_cycle",
    "contlearn.data.__main__",
    "contlearn.data.label_quality",
    "contlearn.evaluation.gate",
    "contlearn.evaluation.runtime",
    "contlearn.evaluation.scoring",
    "contlearn.export.choice",
    "contlearn.export.graph",
    "contlearn.export.onnx",
    "contlearn.inference.predictor",
    "contlearn.pages.report",
    "contlearn.training.avalanche.bridge",
    "contlearn.training.crossed",
    "contlearn.training.fit",
    "contlearn.training.session",
    "contlearn.training.tuned",
)


def run(arguments, *, environ=None, timeout_seconds=280.0):
    """Run `contlearn ARGUMENTS` in a warm process; give its exit code and both outputs."""
    with (
        socket.socket(socket.AF_UNIX) as connection,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        connection.settimeout(timeout_seconds)
        connection.connect(_server())
        _send(
            connection,
            [out.fileno(), err.fileno()],
            module="contlearn",
            arguments=[str(one) for one in arguments],
            environ={**os.environ, **(environ or {})},
            folder=os.getcwd(),
        )
        answers = connection.makefile("rb")
        pid = int(answers.readline())
        try:
            code = int(answers.readline())
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise
        written = []
        for file in (out, err):
            file.seek(0)
            written.append(file.read().decode("utf-8"))
    return code, *written


@functools.cache
def _server():
    """Start the server of this session; give its address."""
    address = str(Path(tempfile.mkdtemp(prefix="warm-")) / "socket")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.warm", address],
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )

    def end():
        process.kill()
        process.wait()
        process.stdout.close()
        Path(address).unlink(missing_ok=True)
        Path(address).parent.rmdir()

    atexit.register(end)
    assert process.stdout.readline() == b"warm\n"
    return address


def _send(connection, files, **message):
    data = json.dumps(message).encode()
    socket.send_fds(connection, [len(data).to_bytes(8, "big")], files)
    connection.sendall(data)


def _receive(connection):
    """Give what was sent and its files; None when nothing comes any more."""
    head, files, _, _ = socket.recv_fds(connection, 8, 2)
    if not head:
        return None
    with connection.makefile("rb") as stream:
        return json.loads(stream.read(int.from_bytes(head, "big"))), files


def _serve(address):
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    for name in MODULES:
        importlib.import_module(name)
    PluginManager()
    gc.collect()
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        threads = len(os.listdir("/proc/self/task"))
        assert threads == 1, f"{threads} threads: what forks must have one"
        print("warm", flush=True)
        signal.signal(signal.SIGCHLD, _reap)
        while True:
            connection, _ = listener.accept()
            with connection:
                if not os.fork():
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    listener.close()
                    _keep(connection)


def _reap(_signal, _frame):
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _keep(connection):
    """Start the program that is asked for, and tell its pid and how it ended."""
    message, files = _receive(connection)
    program = os.fork()
    if not program:
        spares = _make_spares()
        forking = types.SimpleNamespace(**vars(subprocess))
        forking.Popen = functools.partial(_Forked, spares)
        forking.run = functools.partial(_run_forked, spares)
        for starter in ("contlearn.processes.children", "contlearn.registry.preflight"):
            importlib.import_module(starter).subprocess = forking
        _become(message, files)
    connection.sendall(f"{program}\n".encode())
    _, status = os.waitpid(program, 0)
    with contextlib.suppress(BrokenPipeError):
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _become(message, files):
    """Be `python -m MODULE ARGUMENTS` with these two outputs, from here to the end of the process."""
    for place, file in enumerate(files, start=1):
        os.dup2(file, place)
        os.close(file)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.environ.clear()
    os.environ.update(message["environ"])
    os.chdir(message["folder"])
    random.seed()
    sys.argv = [message["module"], *message["arguments"]]
    try:
        code = 1
        runpy.run_module(message["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code)


def _make_spares():
    """Fork what waits to become children, as long as nothing was opened and no thread runs."""
    spares = []
    for _ in range(SPARES):
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if not pid:
            for _, other in spares:
                other.close()
            ours.close()
            told = _receive(theirs)
            theirs.close()
            if told is None:
                os._exit(0)
            _become(*told)
        theirs.close()
        spares.append((pid, ours))
    return spares


def _use(spares, command, files, environ):
    """Let a spare become `python -m MODULE ARGUMENTS`; give its pid."""
    _, _, module, *arguments = command
    pid, connection = spares.pop()
    with connection:
        _send(
            connection,
            files,
            module=module,
            arguments=arguments,
            environ=environ,
            folder=os.getcwd(),
        )
    return pid


def _run_forked(spares, command, **_):
    """Do what the registry needs of `subprocess.run`, with both outputs."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        pid = _use(spares, command, [out.fileno(), err.fileno()], dict(os.environ))
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(command, code, out.read(), err.read())


class _Forked:
    """What `run_child` needs of a `subprocess.Popen`: a spare that becomes the child."""

    def __init__(self, spares, command, *, stdin, stdout, stderr, env, process_group):
        assert (stdin, stdout, process_group) == (subprocess.DEVNULL, subprocess.PIPE, 0)
        self.returncode = None
        reading, writing = os.pipe()
        self.stdout = os.fdopen(reading, "rb", buffering=0)
        self.pid = _use(spares, command, [writing, stderr.fileno()], env)
        os.setpgid(self.pid, 0)
        os.close(writing)

    def poll(self):
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self):
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode

    def terminate(self):
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)


if __name__ == "__main__":
    _serve(sys.argv[1])

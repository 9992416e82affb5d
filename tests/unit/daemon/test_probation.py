"""A new champion on probation: real promotions, a real HTTP server with counters, injected labels."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import structlog

from contlearn.cycle.causes import request_update
from contlearn.cycle.changes import promote_version
from contlearn.daemon.live import LiveTotals, quantile, read_live
from contlearn.daemon.probation import Probation
from contlearn.errors import ServingError
from tests.scripted import ScriptedContext, drop, make_workspace, open_watch, states
from tests.unit.registry.staged import facts, stage

BUCKETS = ("0.01", "0.1", "1.0", "+Inf")


class Server:
    """Shows the totals it is given, as our server shows its own."""

    def __init__(self):
        self.version, self.good, self.bad, self.fast, self.slow = 1, 0, 0, 0, 0
        self.model = "test"

    def serve(self, *, version, good=0, bad=0, slow=0):
        self.version = version
        self.good += good
        self.bad += bad
        self.slow += slow
        self.fast += good + bad - slow

    def page(self):
        total = self.fast + self.slow
        counts = (0, self.fast, total, total)
        which = f'model="{self.model}"'
        rows = [
            f'contlearn_model_version{{model="{self.model}"}} {self.version}',
            f'contlearn_http_requests_total{{{which},route="/predict",method="POST",code="200"}} {self.good}',
            f'contlearn_http_requests_total{{{which},route="/predict",method="POST",code="500"}} {self.bad}',
            f'contlearn_http_requests_total{{{which},route="/metrics",method="GET",code="500"}} 9999',
            # Another model of the same server, which comes last.
            'contlearn_model_version{model="zebra"} 77',
            'contlearn_http_requests_total{model="zebra",route="/predict",method="POST",code="500"} 5',
            'contlearn_http_request_duration_seconds_bucket{model="zebra",route="/predict",le="+Inf"} 5',
        ]
        rows += [
            f'contlearn_http_request_duration_seconds_bucket{{{which},route="/predict",le="{bound}"}} {count}'
            for bound, count in zip(BUCKETS, counts, strict=True)
        ]
        return "\n".join(rows) + "\n"

    @contextlib.contextmanager
    def running(self, host="127.0.0.1", trust=None):
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                body = owner.page().encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        kind = type("Server", (ThreadingHTTPServer,), {"address_family": family})
        server = kind((host, 0), Handler)
        server.daemon_threads = True
        if trust is not None:
            server.socket = trust.wrap_socket(server.socket, server_side=True)
        self.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()


@pytest.fixture
def server():
    with Server().running() as running:
        yield running


@pytest.fixture
def watch(request, tmp_path, monkeypatch, server):
    labels = getattr(request, "param", 1000)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    workspace = make_workspace(
        tmp_path / "ws",
        f"[probation]\nwindow = 600\nmin_labels = {labels}\nmin_requests = 100\n"
        f'server = "{server.url}"\ncheck_interval = 30\n',
    )
    made = open_watch(workspace)
    made.begin()
    yield made
    made.context.close()


def promote(watch, server, label="calm"):
    """Promote a version and let the server serve it."""
    drop(watch.context.workspace, label)
    result = watch.step()
    assert result.outcome == "promoted"
    server.serve(version=result.version)
    return result.version


def two_versions(watch, server):
    promote(watch, server)
    look(watch)
    server.serve(version=1, good=1000, bad=5)
    look(watch)
    return promote(watch, server)


def look(watch, seconds=31):
    watch.context.clock.sleep(seconds)
    return watch.step()


def test_version_without_complaints_passes_and_updates_wait_meanwhile(watch, server):
    assert two_versions(watch, server) == 2
    look(watch)
    drop(watch.context.workspace, "calm")
    assert look(watch) is None
    assert "version 2 is on probation" in watch.judging.waits["count"]
    assert watch.context.registry.champion() == 2
    promoted = [r for _ in range(25) if (r := look(watch)) is not None]
    assert [r.version for r in promoted] == [3]
    value = json.loads((watch.context.workspace.state / "probation.json").read_bytes())
    assert value["version"] == 3


def test_errors_take_it_back_and_the_records_are_held_with_the_reason(watch, server):
    two_versions(watch, server)
    look(watch)
    server.serve(version=2, good=180, bad=20)
    look(watch)
    registry = watch.context.registry
    assert registry.champion() == 1
    change = registry.last_change()
    assert change.event == "rollback"
    assert "10.0% of 200 requests failed, 0.5% before" in change.reason
    assert states(watch) == {"learnt": 12, "held": 12}
    for _ in range(30):  # nothing is learnt again, nothing rolled back again
        assert look(watch) is None
    assert registry.champion() == 1


def test_few_requests_say_nothing(watch, server):
    two_versions(watch, server)
    look(watch)
    server.serve(version=2, good=50, bad=49)
    look(watch)
    assert watch.context.registry.champion() == 2


def test_as_many_errors_as_before_are_no_reason(watch, server):
    promote(watch, server)
    look(watch)
    server.serve(version=1, good=900, bad=100)
    look(watch)
    promote(watch, server)
    look(watch)
    server.serve(version=2, good=890, bad=110)
    look(watch)
    assert watch.context.registry.champion() == 2


def test_latency_takes_it_back(watch, server):
    two_versions(watch, server)
    look(watch)
    server.serve(version=2, good=500, slow=200)
    look(watch)
    assert watch.context.registry.champion() == 1
    assert "95% of requests took up to" in watch.context.registry.last_change().reason


def test_what_the_former_version_still_answers_does_not_count(watch, server):
    two_versions(watch, server)
    server.serve(version=1, bad=500)  # the server has not swapped yet
    look(watch)
    look(watch)
    assert watch.context.registry.champion() == 2


@pytest.mark.parametrize("watch", [10], indirect=True)
def test_new_labels_take_it_back(watch, server):
    promote(watch, server)
    promote(watch, server)
    asked = []

    def compare(version, former, after):
        asked.append((version, former))
        return {"rows": 40, "right": 20, "former_right": 32, "lost": 14, "won": 2, "differing": 17}

    watch.probation = Probation(watch.context, compare)
    drop(watch.context.workspace, "calm", 9)
    look(watch)
    look(watch)
    assert asked == []  # too few
    drop(watch.context.workspace, "calm", 40)
    look(watch)
    look(watch)
    assert asked == [(2, 1)]
    change = watch.context.registry.journal.find_last("rollback")
    assert (change.previous, change.version) == (2, 1)
    reason = change.reason
    assert "right 50.0% of the time, version 1 80.0%: 14 answers were lost and 2 won" in reason


@pytest.mark.parametrize("watch", [10], indirect=True)
def test_labels_that_an_update_by_request_kept_are_compared_all_the_same(watch, server):
    promote(watch, server)
    promote(watch, server)
    found = {"rows": 40, "right": 20, "former_right": 32, "lost": 14, "won": 2, "differing": 17}
    watch.probation = Probation(watch.context, lambda *_: found)
    drop(watch.context.workspace, "meh", 40)
    request_update(watch.context.catalog, at=watch.context.clock.now(), by="ada", reason="")
    assert watch.step().outcome == "kept"
    look(watch)
    look(watch)
    assert watch.context.registry.journal.find_last("rollback").version == 1
    assert states(watch) == {"learnt": 12, "held": 12, "kept": 40}


@pytest.mark.parametrize("watch", [10], indirect=True)
def test_promotion_while_it_compares_is_not_undone(watch, server):
    """Comparing takes minutes; whoever promotes meanwhile has not asked this probation."""
    promote(watch, server)
    promote(watch, server)
    found = {"rows": 40, "right": 20, "former_right": 32, "lost": 14, "won": 2, "differing": 17}
    registry = watch.context.registry

    def compare(*_):
        with ScriptedContext.open(watch.context.workspace.root) as other:
            other.registry.register(
                stage(other.workspace.root, "by-hand"), cycle_id="by-hand", parent=2, facts=facts()
            )
            promote_version(other, 3, actor="ada", reason="by hand")
        return found

    watch.probation = Probation(watch.context, compare)
    drop(watch.context.workspace, "calm", 40)
    look(watch)
    look(watch)
    assert (registry.champion(), registry.journal.find_last("rollback")) == (3, None)
    look(watch)
    value = watch.probation.to_json()
    assert (value["version"], value["former"], value["verdict"]) == (3, 2, "")
    assert watch.last_error is None


@pytest.mark.parametrize("watch", [10], indirect=True)
def test_lost_answers_are_limited_whatever_was_won(watch, server):
    promote(watch, server)
    promote(watch, server)
    found = {"rows": 40, "right": 30, "former_right": 20, "lost": 5, "won": 15, "differing": 20}
    watch.probation = Probation(watch.context, lambda *_: found)
    drop(watch.context.workspace, "calm", 40)
    look(watch)
    look(watch)
    assert watch.context.registry.champion() == 2
    text = watch.context.workspace.config_file.read_text()
    watch.context.workspace.config_file.write_text(
        text.replace("[probation]\n", "[probation]\nmax_flips = 0.1\n")
    )
    watch.reload()
    drop(watch.context.workspace, "calm", 40)
    look(watch)
    look(watch)
    assert "max_flips" in watch.context.registry.journal.find_last("rollback").reason


def test_probation_goes_on_after_a_restart_where_it_was(watch, server):
    two_versions(watch, server)
    for _ in range(5):
        look(watch)
    before = watch.probation.to_json()["elapsed"]
    assert before > 60
    again = open_watch(watch.context.workspace, watch.context.clock)
    again.begin()
    again.context.clock.jump(86400 * 30)
    again.step()
    assert again.probation.to_json()["elapsed"] == before
    assert "on probation" in again.probation.until()
    again.context.close()


def test_without_server_and_labels_it_passes_and_says_so(watch, server):
    two_versions(watch, server)
    server.version = 7  # something else is served there
    for _ in range(25):
        look(watch)
    value = watch.probation.to_json()
    assert (value["verdict"], value["reason"]) == ("passed", "no requests and no labels were seen")


def test_totals_of_a_server_that_began_anew_count_from_zero():
    before = LiveTotals(1, 100, 5, {"+Inf": 100.0})
    assert LiveTotals(1, 10, 1, {"+Inf": 10.0}).since(before).requests == 10
    assert LiveTotals(1, 130, 5, {"+Inf": 130.0}).since(before).buckets == {"+Inf": 30.0}


def test_quantile_of_open_bucket_is_its_lower_bound():
    assert quantile(LiveTotals(buckets={"0.1": 1.0, "+Inf": 100.0}), 0.95) == 0.1
    assert quantile(LiveTotals(), 0.95) is None


def test_silent_or_strange_server_is_an_error_that_says_why(server):
    with pytest.raises(ServingError, match="cannot be read: .*refused"):
        read_live("http://127.0.0.1:9", "test")
    with pytest.raises(ServingError, match="no model 'other'"):
        read_live(server.url, "other")
    assert read_live(server.url, "test").requests == 0


def test_only_what_was_asked_of_this_model_counts(server):
    server.serve(version=3, good=7, bad=2)
    totals = read_live(server.url, "test")
    assert (totals.version, totals.requests, totals.errors) == (3, 9, 2)
    assert totals.buckets["+Inf"] == 9
    assert read_live(server.url, "zebra") == LiveTotals(77, 5, 5, {"+Inf": 5})


def test_server_of_before_that_names_no_model_is_understood(server):
    server.serve(version=3, good=7)
    named, server.model = server.page, "test"
    server.page = lambda: named().replace('model="test",', "")
    assert read_live(server.url, "test").requests == 7


def configured(watch, extra):
    """Let the probation ask what `[serving]` says."""
    path = watch.context.workspace.config_file
    text = "\n".join(line for line in path.read_text().split("\n") if "server =" not in line)
    path.write_text(f"{text}\n[serving]\n{extra}\n")
    watch.reload()
    watch.step()


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_server_bound_to_an_address_of_version_6_is_asked(watch, server):
    with Server().running("::1") as other:
        configured(watch, f'host = "::1"\nport = {other.port}')
        two_versions(watch, other)
        look(watch)
        other.serve(version=2, good=180, bad=20)
        look(watch)
    assert watch.context.registry.champion() == 1


@pytest.mark.parametrize("signed_by", ["itself", "an authority"])
def test_server_with_a_certificate_is_asked_over_tls(watch, server, tmp_path, signed_by):
    certificate, key = make_certificate(tmp_path, signed=signed_by != "itself")
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trust.load_cert_chain(certificate, key)
    with Server().running(trust=trust) as other:
        configured(watch, f'port = {other.port}\ntls_certificate = "{certificate}"')
        two_versions(watch, other)
        look(watch)
        other.serve(version=2, good=180, bad=20)
        look(watch)
        strange, _ = make_certificate(tmp_path / "strange")
        with pytest.raises(ServingError, match="certificate verify failed"):
            read_live(f"https://127.0.0.1:{other.port}", "test", certificate=strange)
    assert watch.context.registry.champion() == 1


def make_certificate(folder, *, signed=False):
    """Make one for another name than the server's address."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl (Debian package openssl)")
    folder.mkdir(exist_ok=True)
    new = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"

    def make(name, *more):
        files = folder / f"{name}.pem", folder / f"{name}.key"
        command = [*new.split(), "-subj", f"/CN={name}.example", *more]
        command += ["-keyout", str(files[1]), "-out", str(files[0])]
        subprocess.run(command, check=True, capture_output=True)
        return files

    if not signed:
        return make("server")
    authority = make("authority")
    by = ["-CA", str(authority[0]), "-CAkey", str(authority[1])]
    return make("server", *by, "-addext", "basicConstraints=critical,CA:FALSE")


def test_that_nobody_answers_is_logged_once_in_a_probation(watch, server):
    configured(watch, "port = 9")
    with structlog.testing.capture_logs() as lines:
        two_versions(watch, server)
        for _ in range(4):
            look(watch)
    said = [line for line in lines if "not judged" in line["event"]]
    assert [(line["log_level"], line["version"]) for line in said] == [("warning", 2)]
    assert said[0]["where"] == "http://127.0.0.1:9/metrics"

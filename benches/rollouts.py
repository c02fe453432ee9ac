#!/usr/bin/env python3
"""Twenty rollouts under each kind of traffic, by clients and servers that know nothing of Remuda: 0 failed.

    cargo build --profile dist
    python3 -m venv v && v/bin/pip install gunicorn uvicorn 'httpx[http2]' grpcio
    v/bin/python benches/rollouts.py                 # all lanes, less than 90 s each
    v/bin/python benches/rollouts.py --lanes grpc --rollouts 5
    v/bin/python benches/rollouts.py --control       # breaks connections on purpose: every client must count failures

Lanes
  http1       HTTP/1.1 over TCP         wrk, curl, httpx       gunicorn, on a TCP port
  http1-tls   HTTP/1.1 over TLS         wrk, curl, httpx       Node's http, on a unix socket
  http2-tls   HTTP/2 over TLS (ALPN)    h2load, curl, httpx    uvicorn, on a unix socket
  h2c         HTTP/2, prior knowledge   h2load, curl, httpx    Node's http2, h2c on a TCP port
  grpc        gRPC, cleartext and TLS   grpcio                 grpcio, h2c on a TCP port

How each client counts; nothing is tried a second time by any of them, so that a client's patience hides nothing
  wrk      4 keep-alive connections. Failed: answers that are not 2xx or 3xx, errors at connect, read and write, timeouts.
  h2load   4 connections of 4 streams, 200 requests a second, in runs of 800 requests. Failed: all of them that have not
           "succeeded": other statuses than 2xx and 3xx, RST_STREAM, and what a lost connection or a GOAWAY leaves undone.
  curl     a new process and connection for two requests, one of which takes 0.3 s (for h2c a connection for each: curl 7.88
           cannot ask twice on one, whatever the server). Failed: an exit status that is not 0, a status that is not
           200, another version of HTTP or length than was due.
  httpx    three at once: GET; POST of 2 KiB, whose answer must be its body; answers that are streamed for a second. Over
           HTTP/2 they share one connection. Failed: any exception, another status, version of HTTP or body.
  grpcio   for cleartext and TLS each one channel with calls of one message, streamed answers of a second, and streams both
           ways. Failed: any status but OK, a message missing or wrong. Retries are off (`grpc.enable_retries`).

A rollout closes no client's connection, so there is no GOAWAY to be excused: what it would cost counts. Each POST has a
name that the worker writes down: one that was answered and not written, or written twice, is a failure too.

It prints a table, and exits with 1 if a request failed or a rollout did not complete, with 2 if a lane could not run.
Needs (Debian) wrk, nghttp2-client, curl, openssl, nodejs; a lane whose peers are absent is named as not run.
Loopback only; it ends only what it started.
"""
import argparse
import asyncio
import collections
import importlib.metadata
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
import compare  # noqa: E402
import instance  # noqa: E402
from instance import Instance, Missed  # noqa: E402

ROLLOUT = '[services.app.rollout]\nramp = "100ms"\nsoak = "200ms"\n'
LANE = 88  # seconds
# Not begun later than this: the clients need a moment to end.
LAST = 78

# ---------------------------------------------------------------- servers
# Each answers /64 with 64 bytes, /slow with 64 bytes after 0.3 s, /stream with ten times `tick` in a second, and a POST
# to /NAME with its body, once it has written NAME down.
WSGI = """
import os, time
BOOK = os.open(os.environ["BOOK"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def ticks():
    for _ in range(10):
        yield b"tick"
        time.sleep(0.1)

def app(env, start):
    path = env["PATH_INFO"]
    if env["REQUEST_METHOD"] == "POST":
        body = env["wsgi.input"].read()
        os.write(BOOK, path.encode() + b"\\n")
    elif path == "/stream":
        start("200 OK", [("Content-Type", "text/plain")])
        return ticks()
    else:
        if path == "/slow":
            time.sleep(0.3)
        body = b"x" * 64
    start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""
ASGI = """
import asyncio, os
BOOK = os.open(os.environ["BOOK"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body, path, more = b"", scope["path"], True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    if path == "/stream":
        for _ in range(10):
            await send({"type": "http.response.body", "body": b"tick", "more_body": True})
            await asyncio.sleep(0.1)
        body = b""
    elif scope["method"] == "POST":
        os.write(BOOK, path.encode() + b"\\n")
    else:
        if path == "/slow":
            await asyncio.sleep(0.3)
        body = b"x" * 64
    await send({"type": "http.response.body", "body": body})
"""
NODE = """
const fs = require('fs');
const book = fs.openSync(process.env.BOOK, 'a');
const [, , kind, where] = process.argv;
require(kind).createServer((request, response) => {
  if (request.method === 'POST') {
    const parts = [];
    request.on('data', part => parts.push(part));
    request.on('end', () => {
      fs.writeSync(book, request.url + '\\n');
      response.end(Buffer.concat(parts));
    });
  } else if (request.url === '/stream') {
    let left = 10;
    const tick = () => {
      if (!left--) return response.end();
      response.write('tick');
      setTimeout(tick, 100);
    };
    tick();
  } else {
    setTimeout(() => response.end('x'.repeat(64)), request.url === '/slow' ? 300 : 0);
  }
}).listen(/^[0-9]+$/.test(where) ? { port: +where, host: '127.0.0.1' } : { path: where });
"""
GRPC = """
import sys, time
from concurrent import futures
import grpc

def unary(request, context):
    return request

def ticks(request, context):
    for n in range(10):
        yield b"%d" % n
        time.sleep(0.1)

def both(requests, context):
    yield from requests

server = grpc.server(futures.ThreadPoolExecutor(32))
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("bench.Echo", {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Ticks": grpc.unary_stream_rpc_method_handler(ticks),
    "Both": grpc.stream_stream_rpc_method_handler(both),
})])
if not server.add_insecure_port("127.0.0.1:" + sys.argv[1]):
    sys.exit("cannot listen")
server.start()
server.wait_for_termination()
"""


# ---------------------------------------------------------------- clients
class Client:
    """One client at work, in threads or a process of its own, and what it counts."""

    name = version = None

    def __init__(self, lane):
        self.lane, self.over, self.lock = lane, threading.Event(), threading.Lock()
        self.asked, self.failed, self.why, self.threads = 0, 0, collections.Counter(), []

    def start(self):
        self.threads = [threading.Thread(target=self.guarded, args=(run,), daemon=True) for run in self.runs()]
        for t in self.threads:
            t.start()
        return self

    def guarded(self, run):
        try:
            run()
        except Exception as e:  # a client that cannot go on has not succeeded
            self.count(1, 1, f"client ended: {e!r}")

    def count(self, asked, failed=0, why=None):
        with self.lock:
            self.asked += asked
            self.failed += failed
            if failed:
                self.why[f"{time.strftime('%T')} {why}"[:160]] += failed

    def stop(self):
        self.over.set()
        for t in self.threads:
            t.join(20)
            if t.is_alive():
                self.count(1, 1, "client did not end")

    def repeat(self, once, pause):
        """Asks until it is over; `once` says what was wrong, or nothing."""
        while not self.over.wait(pause):
            try:
                said = once()
            except Exception as e:
                said = repr(e)
            self.count(1, 1 if said else 0, said)


def said_by(argv, pattern):
    text = subprocess.run(argv, capture_output=True, text=True)
    m = re.search(pattern, text.stdout + text.stderr)
    return m[1] if m else "?"


class Wrk(Client):
    name, version = "wrk", lambda: said_by(["wrk", "-v"], r"wrk (?:debian/)?(\S+)")

    def runs(self):
        # Ten milliseconds between two requests of a connection leave the workers time to start.
        script = os.path.join(self.lane.dir, "wrk.lua")
        with open(script, "w") as f:
            f.write("function delay() return 10 end\n")
        argv = ["wrk", "-t1", "-c4", f"-d{LANE}s", "--timeout", "5s", "-s", script, self.lane.url + "/64"]
        self.p = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        return [self.read]

    def read(self):
        o = self.p.communicate()[0]
        m = re.search(r"(\d+) requests in", o)
        bad = re.search(r"Non-2xx or 3xx responses: (\d+)", o)
        errors = re.search(r"Socket errors: (connect (\d+), read (\d+), write (\d+), timeout (\d+))", o)
        if not m:
            raise Missed(f"wrk said {o!r}")
        failed = (int(bad[1]) if bad else 0) + (sum(int(errors[i]) for i in range(2, 6)) if errors else 0)
        self.count(int(m[1]), failed, f"{bad[0] if bad else ''} {errors[1] if errors else ''}")

    def stop(self):
        self.p.send_signal(signal.SIGINT)  # prints what it has
        super().stop()


class H2load(Client):
    name, version = "h2load", lambda: said_by(["h2load", "--version"], r"nghttp2/(\S+)")

    def runs(self):
        return [self.run]

    def run(self):
        # With a number of requests, those that a lost connection leaves undone are counted; with a time they are not.
        argv = ["h2load", "-c4", "-m4", "-t1", "-n800", "--rps=50", self.lane.url + "/64"]
        while not self.over.is_set():
            r = subprocess.run(argv, capture_output=True, text=True)
            m = re.search(r"requests: (\d+) total, .* (\d+) done, (\d+) succeeded, .*", r.stdout)
            if r.returncode or not m:
                raise Missed(f"h2load: exit {r.returncode}: {r.stdout[-300:]}{r.stderr[-300:]}")
            self.count(int(m[1]), int(m[1]) - int(m[3]), m[0])


class Curl(Client):
    name, version = "curl", lambda: said_by(["curl", "--version"], r"curl (\S+)")
    FLAGS = {"1.1": ["--http1.1"], "2": ["--http2"], "2c": ["--http2-prior-knowledge"]}

    def runs(self):
        return [self.run] * 2

    def run(self):
        http, urls = self.lane.http, [self.lane.url + path for path in ("/slow", "/64")]
        common = ["curl", "-sS", "-m", "10", "--cacert", self.lane.cert, *self.FLAGS[http], "-w", "%{stderr}%{http_code} %{size_download} %{http_version}\n"]
        due = "200 64 " + http.removesuffix("c")
        while not self.over.wait(0.05):
            for some in [[url] for url in urls] if http == "2c" else [urls]:
                r = subprocess.run(common + [x for url in some for x in ("-o", os.devnull, url)], capture_output=True, text=True)
                got = r.stderr.strip().splitlines()
                wrong = sum(said != due for said in (got + ["nothing"] * 2)[:len(some)])
                self.count(len(some), wrong or bool(r.returncode), f"exit {r.returncode}: {got}")


class Httpx(Client):
    name, version = "httpx", lambda: importlib.metadata.version("httpx")

    def runs(self):
        return [lambda: asyncio.run(self.run())]

    async def run(self):
        import httpx
        http = self.lane.http
        self.due = "HTTP/1.1" if http == "1.1" else "HTTP/2"
        verify = ssl.create_default_context(cafile=self.lane.cert)
        # Its client that is shared by threads uses HTTP/2's state without a lock; this one is of a single thread.
        async with httpx.AsyncClient(http1=http != "2c", http2=http != "1.1", verify=verify, base_url=self.lane.url, timeout=10, trust_env=False) as client:
            await asyncio.gather(*[self.repeat_here(once, client) for once in (self.get, self.post, self.stream)])

    async def repeat_here(self, once, client):
        n = 0
        while not self.over.is_set():
            await asyncio.sleep(0.02)
            n += 1
            try:
                said = await once(client, n)
            except Exception as e:
                said = repr(e)
            self.count(1, 1 if said else 0, said)

    def wrong(self, r, body, due):
        if r.status_code != 200 or r.http_version != self.due or body != due:
            return f"{r.http_version} {r.status_code} {len(body)} bytes of {len(due)} {r.headers.get('proxy-status')}"

    async def get(self, client, _):
        r = await client.get("/64")
        return self.wrong(r, r.content, b"x" * 64)

    async def post(self, client, n):
        name = f"/post-{n}"
        body = name.encode() * 200
        r = await client.post(name, content=body)
        said = self.wrong(r, r.content, body)
        if not said:
            self.lane.posted.append(name)
        return said

    async def stream(self, client, _):
        async with client.stream("GET", "/stream") as r:
            return self.wrong(r, await r.aread(), b"tick" * 10)


class Grpc(Client):
    version = lambda: importlib.metadata.version("grpcio")  # noqa: E731
    tls = False

    def runs(self):
        import grpc
        options = [("grpc.enable_retries", 0)]
        if self.tls:
            with open(self.lane.cert, "rb") as f:
                self.channel = grpc.secure_channel(f"localhost:{self.lane.it.tls_port}", grpc.ssl_channel_credentials(f.read()), options)
        else:
            self.channel = grpc.insecure_channel(f"127.0.0.1:{self.lane.it.port}", options)
        self.unary = self.channel.unary_unary("/bench.Echo/Unary")
        self.ticks = self.channel.unary_stream("/bench.Echo/Ticks")
        self.both = self.channel.stream_stream("/bench.Echo/Both")
        return [lambda: self.repeat(self.one, 0.01), lambda: self.repeat(self.one, 0.01), lambda: self.repeat(self.streamed, 0.01), lambda: self.repeat(self.there_and_back, 0.01)]

    def one(self):
        body = os.urandom(2000)
        return None if self.unary(body, timeout=10) == body else "another body"

    def streamed(self):
        got = list(self.ticks(b"", timeout=10))
        return None if got == [b"%d" % n for n in range(10)] else f"{len(got)} of 10 messages"

    def there_and_back(self):
        def said():
            for n in range(10):
                yield b"%d" % n
                time.sleep(0.05)
        got = list(self.both(said(), timeout=10))
        return None if got == [b"%d" % n for n in range(10)] else f"{len(got)} of 10 messages"


class GrpcPlain(Grpc):
    name = "grpcio, cleartext"


class GrpcTls(Grpc):
    name, tls = "grpcio, TLS", True


# ---------------------------------------------------------------- lanes
PYTHON = sys.executable
NODE_VERSION = ("node", lambda: said_by(["node", "--version"], r"v(\S+)"))


def package(name):
    return name, lambda: importlib.metadata.version(name)


# name: (what, HTTP as curl calls it, over TLS, server, its command, the service's other keys, clients)
LANES = {
    "http1": ("HTTP/1.1 over TCP", "1.1", False, package("gunicorn"),
              [PYTHON, "-m", "gunicorn", "--threads", "8", "--bind", "127.0.0.1:{port}", "--no-control-socket", "wsgi:app"], "", [Wrk, Curl, Httpx]),
    "http1-tls": ("HTTP/1.1 over TLS", "1.1", True, NODE_VERSION, ["node", "app.js", "http", "{socket}"], "", [Wrk, Curl, Httpx]),
    "http2-tls": ("HTTP/2 over TLS", "2", True, package("uvicorn"), [PYTHON, "-m", "uvicorn", "--uds", "{socket}", "asgi:app"], "", [H2load, Curl, Httpx]),
    "h2c": ("HTTP/2, prior knowledge", "2c", False, NODE_VERSION, ["node", "app.js", "http2", "{port}"], 'protocol = "h2c"\n', [H2load, Curl, Httpx]),
    "grpc": ("gRPC", "2", True, package("grpcio"), [PYTHON, "echo.py", "{port}"], 'protocol = "h2c"\n', [GrpcPlain, GrpcTls]),
}


class Lane:
    """One kind of traffic and the rollouts below it."""

    def __init__(self, name, directory, certificate):
        self.name, self.dir, self.cert = name, directory, certificate[0]
        self.what, self.http, self.tls, self.server, command, more, self.kinds = LANES[name]
        self.book, self.posted, self.pair = os.path.join(directory, "book"), [], certificate
        os.makedirs(directory)
        for file, text in (("wsgi.py", WSGI), ("asgi.py", ASGI), ("app.js", NODE), ("echo.py", GRPC)):
            with open(os.path.join(directory, file), "w") as f:
                f.write(text)
        self.services = (f'[services.app]\ncommand = {json.dumps(command)}\ncwd = "{directory}"\nworkers = 2\n{more}'
                         f'env = {{ BOOK = "{self.book}", PYTHONDONTWRITEBYTECODE = "1" }}\n') + ROLLOUT
        self.rolled, self.notes, self.clients = 0, [], []

    def run(self, a):
        began = time.time()
        with Instance(a.bin, os.path.join(self.dir, "i"), self.services, cert=self.pair, threads=2) as it:
            self.it, self.url = it, f"https://localhost:{it.tls_port}" if self.tls else f"http://127.0.0.1:{it.port}"
            it.wait_ready()
            try:
                self.clients = [kind(self).start() for kind in self.kinds]
                it.wait("every client to have had an answer", lambda: all(c.asked or isinstance(c, (Wrk, H2load)) for c in self.clients), 10)
                if a.control:
                    self.break_connections(it)
                else:
                    while self.rolled < a.rollouts and time.time() - began < LAST:
                        it.rollout()
                        self.rolled += 1
            except Missed as e:
                self.notes.append(f"rollout {self.rolled + 1}: {e}")
            finally:
                for c in self.clients:
                    c.stop()
            if it.stop():
                self.notes.append("processes left after its end")
        self.read_book()
        compare.log(f"{self.name}: {self.rolled} rollouts in {time.time() - began:.0f} s, " + ", ".join(f"{c.name} {c.failed} of {c.asked} failed" for c in self.clients))

    def break_connections(self, it):
        """Kills the data plane, which every client must notice."""
        for _ in range(3):
            time.sleep(1.5)
            plane = it.planes()[0]
            os.kill(plane, signal.SIGKILL)
            it.wait("another plane", lambda: [p["pid"] for p in it.status()["data_planes"] if p["state"] == "accepting" and p["pid"] != plane])

    def read_book(self):
        """POSTs that were lost or doubled."""
        if Httpx not in self.kinds:
            return
        with open(self.book) as f:
            written = collections.Counter(f.read().split())
        doubled = [n for n, times in written.items() if times > 1]
        lost = [n for n in self.posted if n not in written]
        if doubled or lost:
            self.notes.append(f"{len(doubled)} POSTs executed twice, {len(lost)} answered and not executed")

    def failed(self):
        return sum(c.failed for c in self.clients) + len(self.notes)


def run(a, tmp, certificate):
    lanes, broken = [], []
    for name in a.lanes.split(","):
        lane = Lane(name, os.path.join(tmp, name), certificate)
        tools = [k.name for k in lane.kinds if k in (Wrk, H2load, Curl)] + ["node"] * (lane.server is NODE_VERSION)
        try:
            absent = [t for t in tools if not shutil.which(t)]
            if absent:
                raise Missed(f"not installed: {', '.join(absent)}")
            lane.versions = {"server": f"{lane.server[0]} {lane.server[1]()}", **{k.__name__: k.version() for k in lane.kinds}}
            instance.bounded(LANE, name, lane.run, a)
            lanes.append(lane)
        except (Missed, importlib.metadata.PackageNotFoundError) as e:
            compare.log(f"{name}: {e!r}")
            broken.append(f"{name}: {e}")
    return lanes, broken


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--lanes", default=",".join(LANES), help="comma list (default: all)")
    ap.add_argument("--rollouts", type=int, default=20, help="in each lane (default 20)")
    ap.add_argument("--control", action="store_true", help="kill the data plane three times instead of rolling: exits with 0 if every client counts failures")
    ap.add_argument("--bin", default=compare.REMUDA_BIN, help="the remuda to try (default target/dist/remuda)")
    ap.add_argument("--json", help="write the results here")
    ap.add_argument("--md", help="write the table here (also printed)")
    a = ap.parse_args()
    a.bin = os.path.abspath(a.bin)
    instance.end_with_finally()
    instance.need("openssl")
    tmp = tempfile.mkdtemp(prefix="rollouts-")
    try:
        lanes, broken = run(a, tmp, instance.certificate(tmp))
    finally:
        if sys.exc_info()[0] is None:
            shutil.rmtree(tmp, ignore_errors=True)
        else:
            compare.log(f"left for a look: {tmp}")
    rows = [{"what": lane.what, "client": f"{c.name} {lane.versions[type(c).__name__]}", "server": lane.versions["server"], "rollouts": lane.rolled,
             "requests": c.asked, "failed": c.failed, "why": dict(c.why.most_common(5))} for lane in lanes for c in lane.clients]
    machine = instance.where(a.bin)
    md = [machine, "", "| what | client | server | rollouts | requests | failed |", "|---|---|---|---|---|---|"]
    md += ["| " + " | ".join(str(r[k]) for k in ("what", "client", "server", "rollouts", "requests", "failed")) + " |" for r in rows] + [""]
    md += [f"{r['what']}, {r['client']}: {n} x {why}  " for r in rows for why, n in r["why"].items()]
    md += [f"{lane.what}: {note}  " for lane in lanes for note in lane.notes]
    short = [lane for lane in lanes if lane.rolled < a.rollouts and not a.control]
    md += [f"{lane.what}: {lane.rolled} of {a.rollouts} rollouts in its time  " for lane in short] + [f"Not run: {b}  " for b in broken]
    text = "\n".join(md)
    print(text)
    if a.md:
        with open(a.md, "w") as f:
            f.write(text + "\n")
    if a.json:
        with open(a.json, "w") as f:
            json.dump({"machine": machine, "rows": rows, "notes": {lane.name: lane.notes for lane in lanes}, "not_run": broken}, f, indent=1)
    if broken:
        sys.exit(2)
    if a.control:
        sys.exit(0 if all(r["failed"] for r in rows) else 1)
    sys.exit(1 if short or any(lane.failed() for lane in lanes) else 0)


if __name__ == "__main__":
    main()

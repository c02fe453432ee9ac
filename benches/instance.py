"""A running Remuda for the scripts of this directory: its config, its admin API, its processes, its end."""
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import types

sys.dont_write_bytecode = True
import compare  # noqa: E402

# What every config here begins with. The rest, services above all, is the caller's.
HEAD = """
threads = {threads}
state_dir = "{dir}/state"
runtime_dir = "{dir}/run"
ports = "{first}-{last}"
[[listen]]
address = "127.0.0.1:{port}"
[[listen]]
address = "127.0.0.1:{tls_port}"
tls = {{ cert = "{cert}", key = "{key}" }}
[admin]
address = "off"
socket = "{dir}/a.sock"
[access_log]
to = "{dir}/access.log"
"""
# Ports for workers that listen on TCP: below the ephemeral ones, away from those of compare.py.
WORKER_PORTS = (29000, 29999)


class Missed(Exception):
    """What was to be measured did not come about."""


class Local(http.client.HTTPConnection):
    """HTTP over the admin socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=10)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Instance:
    """`remuda run` with the given services, in a directory of its own."""

    def __init__(self, binary, directory, services, cert=None, cpus=None, threads=1):
        os.makedirs(directory)
        self.binary, self.dir, self.cpus = binary, directory, cpus
        self.port, self.tls_port = compare.free_ports(2)
        head = HEAD.format(threads=threads, dir=directory, first=WORKER_PORTS[0], last=WORKER_PORTS[1], port=self.port,
                           tls_port=self.tls_port, cert=cert and cert[0], key=cert and cert[1])
        if not cert:
            head = head.replace(f'[[listen]]\naddress = "127.0.0.1:{self.tls_port}"\ntls = {{ cert = "None", key = "None" }}\n', "")
        self.file = os.path.join(directory, "remuda.toml")
        with open(self.file, "w") as f:
            f.write(head + services)
        self.log = open(os.path.join(directory, "log"), "w")
        self.proc = None

    def __enter__(self):
        self.proc = compare.Proc([self.binary, "run", "-c", self.file], self.cpus, logf=self.log)
        return self

    def __exit__(self, *_):
        self.stop()

    @property
    def supervisor(self):
        return self.proc.p.pid

    def ask(self, method, path, body=None):
        c = Local(os.path.join(self.dir, "a.sock"))
        try:
            c.request(method, path, body, {"Content-Type": "application/json"})
            r = c.getresponse()
            text = r.read().decode()
        finally:
            c.close()
        if r.status >= 300:
            raise Missed(f"{method} {path}: {r.status} {text}")
        return text

    def status(self):
        return json.loads(self.ask("GET", "/v1/status"))

    def service(self, name="app"):
        return self.status()["services"][name]

    def planes(self):
        return [p["pid"] for p in self.status()["data_planes"]]

    def metric(self, name, **labels):
        """The sum of the series that have these labels."""
        total = 0.0
        for line in self.ask("GET", "/metrics").splitlines():
            if line.startswith(name) and line[len(name)] in " {" and all(f'{k}="{v}"' in line for k, v in labels.items()):
                total += float(line.rsplit(" ", 1)[1])
        return total

    def wait(self, what, holds, secs=20):
        """Until `holds()` says something true, which is returned."""
        end = time.time() + secs
        while True:
            try:
                said = holds()
                if said:
                    return said
            except (OSError, http.client.HTTPException):
                pass  # the socket is not there yet
            if self.proc.p.poll() is not None:
                raise Missed(f"remuda ended while waiting for {what}: {self.tail()}")
            if time.time() > end:
                raise Missed(f"waited {secs} s for {what}: {self.tail()}")
            time.sleep(0.02)

    def wait_ready(self, names=("app",), secs=20):
        self.wait("workers to be ready", lambda: all(s["ready"] == s["wanted"] for s in (self.service(n) for n in names)), secs)

    def rollout(self, name="app", secs=60):
        """One rollout by the command line, to its end."""
        r = subprocess.run([self.binary, "rollout", name, "--admin-socket", os.path.join(self.dir, "a.sock"), "--timeout", f"{secs}s"],
                           capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if r.returncode:
            raise Missed(f"rollout: exit {r.returncode}: {(r.stdout + r.stderr).strip()[-600:]}")

    def wait_only(self, name="app", secs=20):
        """Until the stable generation is the only one that has processes."""
        self.wait("old workers to be gone", lambda: len(self.service(name)["generations"]) == 1, secs)

    def tail(self):
        with open(os.path.join(self.dir, "log")) as f:
            return "\n".join(f.read().splitlines()[-6:])

    def stop(self):
        """Ends it, and says by pid what of it would not end."""
        pids = self.proc.pids()
        for sign, secs in ((signal.SIGTERM, 15), (signal.SIGQUIT, 5)):
            if self.proc.p.poll() is None:
                self.proc.p.send_signal(sign)
                try:
                    self.proc.p.wait(secs)
                except subprocess.TimeoutExpired:
                    pass
        left = [p for p in pids if p != self.supervisor and lives(p)]
        for p in left:
            with open(f"/proc/{p}/cmdline") as f:
                compare.log(f"left: {p} {f.read()}")
        self.proc.stop()
        self.log.close()
        return left


def lives(pid):
    """Whether it is there and no zombie, which is the affair of whoever must reap it."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class Trickle:
    """A few keep-alive clients that ask on and on, slowly, and count what is not a 200. Nothing is tried twice."""

    def __init__(self, port, clients=4, pause=0.005, path="/64"):
        self.args, self.over, self.asked, self.failed = (port, pause, path), threading.Event(), 0, []
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(clients)]
        for t in self.threads:
            t.start()

    def run(self):
        port, pause, path = self.args
        c = None
        while not self.over.wait(pause):
            try:
                c = c or http.client.HTTPConnection("127.0.0.1", port, timeout=10)
                c.request("GET", path)
                r = c.getresponse()
                r.read()
                said = None if r.status == 200 else f"status {r.status}"
            except (OSError, http.client.HTTPException) as e:
                said, c = repr(e), None
            self.asked += 1
            if said:
                self.failed.append(said)

    def stop(self):
        self.over.set()
        for t in self.threads:
            t.join(15)
        return self


def certificate(directory):
    """A certificate for localhost and its key."""
    cert, key = os.path.join(directory, "cert.pem"), os.path.join(directory, "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


def need(*tools):
    missing = [t for t in tools if not shutil.which(t)]
    if missing:
        sys.exit(f"missing tool: {', '.join(missing)}")


def where(*binaries):
    """The date, the machine and the programs, as the results' first line says them."""
    return compare.versions([types.SimpleNamespace(bin=b) for b in binaries])


def bounded(secs, name, part, *args):
    """Runs a part, which has so many seconds."""
    def over(*_):
        raise Missed(f"{name} took more than {secs} s")
    signal.signal(signal.SIGALRM, over)
    signal.alarm(secs)
    try:
        return part(*args)
    finally:
        signal.alarm(0)


def end_with_finally():
    """SIGTERM ends the script by its `finally`s, so that what it started ends too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

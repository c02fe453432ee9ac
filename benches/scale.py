#!/usr/bin/env python3
"""What stays flat: the cost of a request with more workers and after more rollouts, and what thousands of
connections that stay cost and lose.

    cargo build --profile dist && benches/scale.py
    benches/scale.py --parts workers,idle --secs 1        # two of the parts, briefly

Parts (each takes less than 90 s)
  workers     CPU per request with 1, 4, 16, 64 and 256 workers (`upstream`), each time by a fresh process, in
              interleaved rounds. At most 1.10 times what 1 worker costs, as median of the ratios within a round.
              Beside it haproxy in front of the same, if it is there.
  rollouts    CPU per request after 0 to 8 rollouts in a row of a service of `command`, next to an instance that
              never rolls, in turns: the ratio of the two takes the machine's noise out. At most 1.10 times the ratio
              before the first. Then what the rollouts left: descriptors, processes, worker sockets.
  growth      As many quick rollouts as fit into 70 s, and the memory of plane and supervisor after each.
  idle        10,000 keep-alive connections that have each had an answer and then idle, while 1,000 requests a second
              go on at others: p99 and CPU of the others with them and without, memory per connection. Then a rollout
              of the workers that answered them. No connection may be gone, and each must get its next answer.
  websockets  1,000 WebSockets of the Python library `websockets`, client and worker, through a rollout. 900 send
              now and then: none of them may be broken, every echo must be right. 100 fall silent: each must be cut
              between half of `drain.tunnel` and the whole (at its own time, so that they do not come back at once).
              Status, metrics and access log must count them all.

CPU is user and system time of the data plane alone, on CPU 0; the load and the origins are on CPU 1. Probes of workers
are made by the supervisor, at a rate that does not depend on requests: its CPU is shown beside.

It exits with 1 if a bound is missed and with 2 if a part could not be measured. Loopback only; it ends only what it
started, and checks that nothing of it is left. Needs 16,384 descriptors (`ulimit -n`), and (Debian):

    apt install wrk nghttp2-client gcc
    python3 -m venv v && v/bin/pip install websockets && v/bin/python benches/scale.py   # for the part websockets
"""
import argparse
import asyncio
import collections
import importlib.metadata
import json
import os
import random
import resource
import select
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
import compare  # noqa: E402
import instance  # noqa: E402
from instance import Instance, Missed, Trickle  # noqa: E402

COUNTS = (1, 4, 16, 64, 256)
ROLLOUTS = 8
IDLE = 10_000
SOCKETS, SILENT = 1_000, 100
FLAT = 1.10  # most that a request costs, relative to the smallest case
IDLE_KIB = 22  # most memory of an idle connection
# Most that each grows with a rollout, when the first ones are over. The supervisor's histories still fill up then: they hold
# some of the last rollouts, generations and events, and are full after about a hundred rollouts.
GROWTH_KIB = {"plane": 16, "supervisor": 64}
TUNNEL = 12  # seconds of `drain.tunnel`
PLANE, LOAD = {0}, {1}

ORIGINS = '[services.app]\nupstream = [{}]\n'
COMMAND = '[services.app]\ncommand = {}\nworkers = {}\nconnect = "socket"\n'
QUICK = '[services.app.rollout]\nramp = "200ms"\nsoak = "300ms"\n'

ECHO = """
import asyncio, sys
from websockets.asyncio.server import unix_serve

async def echo(socket):
    async for message in socket:
        await socket.send(message)

async def main():
    async with unix_serve(echo, sys.argv[1], ping_interval=None, backlog=4096) as server:
        await server.serve_forever()

asyncio.run(main())
"""


class Result:
    """What one part has to say."""

    def __init__(self, name, columns):
        self.name, self.columns, self.rows, self.notes, self.bounds = name, columns, [], [], []

    def bound(self, what, most, measured, unit=""):
        self.bounds.append({"what": what, "most": most, "measured": measured, "unit": unit, "kept": measured is not None and measured <= most})

    def markdown(self):
        out = [f"\n## {self.name}\n", "| " + " | ".join(self.columns) + " |", "|" + "---|" * len(self.columns)]
        out += ["| " + " | ".join(compare.fmt(c) if isinstance(c, float) else str(c) for c in row) + " |" for row in self.rows]
        out += [""] + self.notes + ["", "| bound | at most | measured | |", "|---|---|---|---|"]
        for b in self.bounds:
            m = compare.fmt(b["measured"]) if isinstance(b["measured"], float) else b["measured"]
            out.append(f"| {b['what']} | {b['most']} {b['unit']} | {m} {b['unit']} | {'kept' if b['kept'] else 'MISSED'} |")
        return "\n".join(out)

    def data(self):
        return {"columns": self.columns, "rows": self.rows, "notes": self.notes, "bounds": self.bounds}


def log(*a):
    print(*a, file=sys.stderr, flush=True)


def cpu(pids):
    return sum(compare.cpu_us(pids))


def measure(it, secs, conns=64):
    """CPU-us per request of the plane, the supervisor's share of a core, and what failed, under wrk."""
    planes = it.planes()
    p0, s0, t0 = cpu(planes), cpu([it.supervisor]), time.time()
    o = compare.run_wrk(f"http://127.0.0.1:{it.port}/64", conns, secs, LOAD)
    if not o:
        raise Missed("wrk gave no result")
    return {"cpu_us": (cpu(planes) - p0) / max(1, o["n"]), "supervisor": (cpu([it.supervisor]) - s0) / 1e6 / (time.time() - t0), "rps": o["rps"], "bad": o["bad"]}


def ended(result, it):
    """The instance's end leaves nothing."""
    result.bound("processes left after its end", 0, len(it.stop()))


# ---------------------------------------------------------------- workers
HAPROXY = """
global
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 300s
  timeout server 60s
  option forwardfor
  http-reuse always
frontend f
  bind 127.0.0.1:{port} backlog 4096
  default_backend b
backend b
  balance random(2)
{servers}"""


def peer(tmp, sockets, secs):
    """CPU-us per request of haproxy in front of the same, picked in the same way; none if it is not there. More
    workers are more sockets and more memory for anybody: this tells what of the growth is that."""
    if not shutil.which("haproxy"):
        return None
    [port] = compare.free_ports(1)
    path = os.path.join(tmp, "haproxy.cfg")
    with open(path, "w") as f:
        f.write(HAPROXY.format(port=port, servers="".join(f"  server s{n} unix@{s}\n" for n, s in enumerate(sockets))))
    it = compare.Proc(["haproxy", "-W", "-q", "-f", path], PLANE)
    try:
        if not compare.wait_up(port):
            raise Missed("haproxy does not answer")
        c0 = cpu(it.pids())
        o = compare.run_wrk(f"http://127.0.0.1:{port}/64", 64, secs, LOAD)
        if not o:
            raise Missed("wrk gave no result for haproxy")
        return (cpu(it.pids()) - c0) / max(1, o["n"])
    finally:
        it.stop()


def workers(a, tmp):
    columns = ["workers", "CPU us/req of the plane", "against 1 worker", "requests/s", "supervisor, % of a core", "failed", "haproxy: CPU us/req", "against 1"]
    r = Result("workers", columns)
    sockets = [os.path.join(tmp, f"{n}.s") for n in range(max(COUNTS))]
    origin = compare.Proc([a.origin] + ["unix:" + s for s in sockets], LOAD)
    seen, theirs = collections.defaultdict(list), collections.defaultdict(list)
    left = 0
    began = time.time()
    try:
        for turn in range(a.rounds):
            # A round that may not fit is not begun, so that all counts have the same number.
            if turn and (time.time() - began) * (turn + 1) / turn > 80:
                log(f"workers: {turn} of {a.rounds} rounds fit")
                break
            for n in COUNTS:
                it = Instance(a.bin, os.path.join(tmp, f"w{n}-{turn}"), ORIGINS.format(", ".join(f'"unix:{s}"' for s in sockets[:n])), cpus=PLANE)
                with it:
                    it.wait_ready()
                    seen[n].append(measure(it, a.secs))
                    left += len(it.stop())
                theirs[n].append(peer(tmp, sockets[:n], a.secs))
            log(f"workers, round {turn + 1}: " + "  ".join(f"{n}: {seen[n][-1]['cpu_us']:.1f} us" for n in COUNTS))
    finally:
        origin.stop()
    for n in COUNTS:
        ratio = statistics.median(x["cpu_us"] / one["cpu_us"] for x, one in zip(seen[n], seen[1]))
        med = {k: statistics.median(x[k] for x in seen[n]) for k in ("cpu_us", "rps", "supervisor")}
        bad = sum(x["bad"] for x in seen[n])
        beside = [(x, one) for x, one in zip(theirs[n], theirs[1]) if x and one]
        haproxy = [statistics.median(x for x, _ in beside), f"{statistics.median(x / one for x, one in beside):.3f}"] if beside else ["-", "-"]
        r.rows.append([n, med["cpu_us"], f"{ratio:.3f}", med["rps"], med["supervisor"] * 100, bad, *haproxy])
        if n > 1:
            r.bound(f"CPU per request, {n} workers against 1", FLAT, round(ratio, 3), "x")
    r.bound("failed requests", 0, sum(x["bad"] for xs in seen.values() for x in xs))
    r.bound("processes left after its end", 0, left)
    r.notes.append(f"{len(seen[1])} rounds of {a.secs} s, 64 connections.")
    return r


# ---------------------------------------------------------------- rollouts
def memory(pids):
    """Resident KiB that are the processes' own: pages of the binary come and go as others need memory."""
    return compare.mem_kb(pids, "RssAnon")


def descriptors(pid):
    """What the process has open, by kind."""
    kinds = collections.Counter()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            kinds[os.readlink(f"/proc/{pid}/fd/{fd}").split(":")[0]] += 1
        except OSError:
            pass
    return kinds


def settled(it):
    """Descriptors of plane and supervisor, processes and worker directories at rest: the least of two seconds, since a probe
    or this very question has one open for a moment. Pooled connections to workers have been closed by then."""
    def now():
        tree = it.proc.pids()
        return [sum(descriptors(it.planes()[0]).values()), sum(descriptors(it.supervisor).values()), len(tree), len(os.listdir(os.path.join(it.dir, "run", "w")))]
    time.sleep(2)  # longer than `worker_idle`
    seen, end = [], time.time() + 2
    while time.time() < end:
        seen.append(now())
        time.sleep(0.05)
    least = (min(of) for of in zip(*seen))
    return dict(zip(("descriptors of the plane", "descriptors of the supervisor", "processes", "worker directories"), least))


def rollouts(a, tmp):
    r = Result("rollouts", ["rollouts", "CPU us/req of the plane", "of one that never rolls", "ratio", "against before", "own memory of the plane, KiB", "of the supervisor, KiB"])
    command = json.dumps(["taskset", "-c", "1", a.origin, "unix:{socket}"])
    services = COMMAND.format(command, 4) + QUICK
    ratios, mem, failed, asked = {}, {}, [], 0
    began = time.time()
    with Instance(a.bin, os.path.join(tmp, "rolls"), services, cpus=PLANE) as it, Instance(a.bin, os.path.join(tmp, "stays"), services, cpus=PLANE) as still:
        it.wait_ready()
        still.wait_ready()
        measure(it, 1), measure(still, 1)
        before = settled(it)
        for n in range(ROLLOUTS + 1):
            pairs = []
            # A machine that is slow at the rollouts gets fewer.
            for turn in range(2 * a.pairs if not n else a.pairs if time.time() - began < 55 else 1):
                one = [measure(x, 1) for x in ((it, still) if turn % 2 else (still, it))]
                x, y = one if turn % 2 else reversed(one)
                pairs.append((x["cpu_us"], y["cpu_us"]))
                failed += [f"wrk: {o['bad']}" for o in (x, y) if o["bad"]]
            ratios[n] = [x / y for x, y in pairs]
            mem[n] = [memory(it.planes()), memory([it.supervisor])]
            mids = [statistics.median(p[i] for p in pairs) for i in (0, 1)]
            now = statistics.median(ratios[n])
            r.rows.append([n, *mids, f"{now:.3f}", f"{now / statistics.median(ratios[0]):.3f}", *mem[n]])
            log(f"rollouts, after {n}: {mids[0]:.1f} us, beside {mids[1]:.1f}, ratio {now:.3f}; {mem[n][0]} + {mem[n][1]} KiB")
            if n < ROLLOUTS:
                trickle = Trickle(it.port)
                try:
                    it.rollout()
                finally:
                    trickle.stop()
                failed += trickle.failed
                asked += trickle.asked
                it.wait_only()
        after = settled(it)
        generation = it.service()["generation"]
        ended(r, it)
    base = statistics.median(ratios[0])
    for first, last in ((1, ROLLOUTS // 2), (ROLLOUTS // 2 + 1, ROLLOUTS)):
        x = statistics.median(q for n in range(first, last + 1) for q in ratios[n])
        r.bound(f"CPU per request after {first} to {last} rollouts, against before", FLAT, round(x / base, 3), "x")
    # The program of the generation before, which `rollback` would start, is held as well as that of the stable one.
    kept = {"descriptors of the supervisor": 1}
    for what, had in before.items():
        r.bound(f"{what}, more than before", kept.get(what, 0), max(0, after[what] - had))
        r.notes.append(f"{what}: {had} before, {after[what]} after.  ")
    r.bound("rollouts that did not complete", 0, ROLLOUTS + 1 - generation)
    r.bound("failed requests", 0, len(failed))
    r.notes.append(f"{asked} requests during the rollouts. {'; '.join(failed[:3])}")
    return r


# ---------------------------------------------------------------- growth
def growth(a, tmp):
    r = Result("growth", ["rollouts", "own memory of the plane, KiB", "of the supervisor, KiB"])
    services = COMMAND.format(json.dumps([a.origin, "unix:{socket}"]), 2) + QUICK.replace("200ms", "50ms").replace("300ms", "100ms")
    seen = []
    began = time.time()
    with Instance(a.bin, os.path.join(tmp, "growth"), services) as it:
        it.wait_ready()
        trickle = Trickle(it.port)
        try:
            while time.time() - began < 70:
                seen.append({"plane": memory(it.planes()), "supervisor": memory([it.supervisor])})
                it.rollout()
        finally:
            trickle.stop()
        ended(r, it)
    if len(seen) < 12:
        raise Missed(f"only {len(seen)} rollouts in 70 s")
    half = len(seen) // 2
    for n in sorted({0, half // 2, half, (half + len(seen)) // 2, len(seen) - 1}):
        r.rows.append([n, seen[n]["plane"], seen[n]["supervisor"]])
    for who, most in GROWTH_KIB.items():
        slopes = [(seen[m][who] - seen[n][who]) / (m - n) for n in range(half, len(seen)) for m in range(n + 1, len(seen))]
        r.bound(f"growth of the {who} with each rollout from {half} to {len(seen) - 1} (median slope)", most, round(statistics.median(slopes), 1), "KiB")
    r.bound("failed requests", 0, len(trickle.failed))
    r.notes.append(f"{trickle.asked} requests during the rollouts. {'; '.join(trickle.failed[:3])}")
    return r


# ---------------------------------------------------------------- idle
ASK = b"GET /64 HTTP/1.1\r\nHost: localhost\r\n\r\n"
NO_PORT = getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24)


def ask(socks):
    """Asks on each at once, and says how many got no answer. Few enough at a time for every queue on the way."""
    lost = 0
    for first in range(0, len(socks), 100):
        some = socks[first:first + 100]
        for s in some:
            try:
                s.sendall(ASK)
            except OSError:
                pass  # seen below
        lost += sum(not answered(s) for s in some)
    return lost


def answered(s):
    got = b""
    try:
        while b"\r\n\r\n" not in got or len(got.split(b"\r\n\r\n", 1)[1]) < 64:
            more = s.recv(4096)
            if not more:
                return False
            got += more
    except OSError:
        return False
    return got.startswith(b"HTTP/1.1 200")


def connect(port, n):
    """The n-th connection, from one of several loopback addresses."""
    s = socket.socket()
    s.setsockopt(socket.IPPROTO_IP, NO_PORT, 1)
    s.bind((f"127.0.0.{2 + n % 8}", 0))
    s.settimeout(10)
    s.connect(("127.0.0.1", port))
    return s


def gone(socks):
    """Those at which something happened: an idle connection hears nothing but its end."""
    poll = select.poll()
    for s in socks:
        poll.register(s, select.POLLIN | select.POLLRDHUP)
    return len(poll.poll(0))


def others(it, secs, tmp):
    """1,000 requests a second on 32 connections."""
    planes, c0 = it.planes(), cpu(it.planes())
    o = compare.run_h2load(f"http://127.0.0.1:{it.port}/64", 32, 1, secs, LOAD, h1=True, rps=1000, tmp=tmp)
    if not o:
        raise Missed("h2load gave no result")
    return dict(o, cpu_us=(cpu(planes) - c0) / max(1, o["n"]))


def idle(a, tmp):
    r = Result("idle", ["idle connections", "p50 ms", "p99 ms", "CPU us/req of the plane", "requests", "failed"])
    command = json.dumps(["taskset", "-c", "1", a.origin, "unix:{socket}"])
    lost = {"at their first request": 0, "while idle": 0, "at their next request": 0}
    seen = {0: [], IDLE: []}
    secs, turns = 4, 3
    began = time.time()
    with Instance(a.bin, os.path.join(tmp, "idle"), COMMAND.format(command, 2) + QUICK, cpus=PLANE) as it:
        it.wait_ready()
        others(it, 1, tmp)
        for turn in range(turns):
            seen[0].append(others(it, secs, tmp))
            start = memory(it.planes())
            socks = []
            try:
                for n in range(IDLE):
                    socks.append(connect(it.port, n))
                lost["at their first request"] += ask(socks)
                if not turn:
                    grown = memory(it.planes()) - start
                seen[IDLE].append(others(it, secs, tmp))
                held = it.metric("remuda_client_connections")
                if turn == turns - 1:
                    during = threading.Thread(target=lambda: seen.__setitem__("rollout", [others(it, 6, tmp)]))
                    during.start()
                    try:
                        it.rollout()
                        it.wait_only()
                    finally:
                        during.join()
                lost["while idle"] += gone(socks)
                lost["at their next request"] += ask(socks)
            finally:
                for s in socks:
                    s.close()
            it.wait("the plane to see them gone", lambda: it.metric("remuda_client_connections") < 40)
            log(f"idle, turn {turn + 1}: p99 {seen[0][-1]['p99']:.2f} ms without, {seen[IDLE][-1]['p99']:.2f} ms with; lost {lost}; {time.time() - began:.0f} s")
        generation = it.service()["generation"]
        ended(r, it)
    med = {n: {k: statistics.median(x[k] for x in xs) for k in ("p50", "p99", "cpu_us")} for n, xs in seen.items()}
    for n, title in ((0, "0"), (IDLE, f"{IDLE:,}"), ("rollout", f"{IDLE:,}, during a rollout")):
        r.rows.append([title, med[n]["p50"], med[n]["p99"], med[n]["cpu_us"], sum(x["n"] for x in seen[n]), sum(x["bad"] for x in seen[n])])
    for what, n in lost.items():
        r.bound(f"connections lost {what}, of {turns} x {IDLE:,}", 0, n)
    r.bound("connections that the metric did not count", 0, max(0, IDLE - int(held)))
    r.bound("own memory of the plane per idle connection", IDLE_KIB, round(grown / IDLE, 2), "KiB")
    # A timer of 1 ms is the least that either side sees.
    r.bound("p99 of the others with idle ones", round(max(1.5 * med[0]["p99"], med[0]["p99"] + 1), 2), round(med[IDLE]["p99"], 2), "ms")
    r.bound("failed requests of the others", 0, sum(x["bad"] for xs in seen.values() for x in xs))
    r.bound("rollouts that did not complete", 0, 2 - generation)
    r.notes.append(f"{turns} turns of {secs} s at 1,000 requests/s on 32 connections; medians. The rollout was in the last turn, and the idle ones asked again after it.")
    return r


# ---------------------------------------------------------------- websockets
class Held:
    """One WebSocket and what became of it."""

    def __init__(self, n, quiet):
        self.n, self.quiet, self.echoed, self.wrong, self.ended = n, quiet, 0, 0, None

    async def live(self, url, over, opened):
        from websockets.asyncio.client import connect
        from websockets.exceptions import ConnectionClosed
        socket = await connect(url, ping_interval=None, open_timeout=20, close_timeout=10, compression=None)
        opened()
        try:
            while not over.is_set():
                if self.quiet and self.echoed:
                    # Ends by the server's end of it only.
                    waits = [asyncio.ensure_future(socket.recv()), asyncio.ensure_future(over.wait())]
                    done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                    for p in pending:
                        p.cancel()
                    if waits[0] in done:
                        waits[0].result()
                        self.wrong += 1  # nobody asked
                    continue
                said = f"{self.n}-{self.echoed}-{random.random()}"
                await socket.send(said)
                self.wrong += (await asyncio.wait_for(socket.recv(), 15)) != said
                self.echoed += 1
                try:
                    await asyncio.wait_for(over.wait(), random.uniform(1, 3))
                except asyncio.TimeoutError:
                    pass
        except (ConnectionClosed, OSError, asyncio.TimeoutError) as e:
            self.ended = (time.time(), repr(e))
        finally:
            await socket.close()


async def hold(it, held, then):
    """All of them at once, and `then` beside them in a thread."""
    over, count = asyncio.Event(), 0

    def opened():
        nonlocal count
        count += 1
    gate = asyncio.Semaphore(50)  # at the opening

    async def one(h):
        async with gate:
            ready = asyncio.Event()
            task = asyncio.ensure_future(h.live(f"ws://127.0.0.1:{it.port}/", over, lambda: (opened(), ready.set())))
            await asyncio.wait([task, asyncio.ensure_future(ready.wait())], return_when=asyncio.FIRST_COMPLETED)
        await task
    tasks = [asyncio.ensure_future(one(h)) for h in held]
    try:
        return await asyncio.get_running_loop().run_in_executor(None, then, lambda: count)
    finally:
        over.set()
        for e in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(e, BaseException):
                log(f"websockets: {e!r}")


def tunnels(it):
    return sum(w["in_flight_by_class"]["tunnel"] for g in it.service()["generations"] for w in g["workers"])


def websockets(a, tmp):
    try:
        version = importlib.metadata.version("websockets")
    except importlib.metadata.PackageNotFoundError:
        raise Missed("the Python library websockets is not installed: see --help") from None
    r = Result("websockets", ["WebSockets", "echoes", "wrong", "broken", "first broken, s after its rollout began", "last, s after its end"])
    echo = os.path.join(tmp, "echo.py")
    with open(echo, "w") as f:
        f.write(ECHO)
    services = COMMAND.format(json.dumps([sys.executable, echo, "{socket}"]), 2) + QUICK + f'[services.app.drain]\ntunnel = "{TUNNEL}s"\n'
    held = [Held(n, n < SILENT) for n in range(SOCKETS)]
    counts, times = {}, {}
    with Instance(a.bin, os.path.join(tmp, "ws"), services) as it:
        it.wait_ready()

        def then(count):
            it.wait("all to be open", lambda: count() == SOCKETS, 30)
            it.wait("the status to count them", lambda: tunnels(it) == SOCKETS, 5)
            it.wait("each to have had an echo", lambda: all(h.echoed for h in held), 15)
            times["began"] = time.time()
            trickle = Trickle(it.port, 2, 0.02)  # the rollout is judged by requests
            try:
                it.rollout()
            finally:
                trickle.stop()
            times["ended"] = time.time()
            counts["after the rollout"] = tunnels(it), SOCKETS - sum(1 for h in held if h.ended)
            counts["of draining workers, metric"] = int(it.metric("remuda_drain_upgraded_connections")), tunnels(it)
            time.sleep(max(0, times["ended"] + TUNNEL + 2 - time.time()))  # the time that is measured
            counts["after the limit"] = tunnels(it), SOCKETS - SILENT
            counts["cut, metric"] = int(it.metric("remuda_drain_cut_requests_total", **{"class": "tunnel"})), SILENT
            times["over"] = time.time()
        asyncio.run(hold(it, held, then))
        it.wait("old workers to be gone", lambda: len(it.service()["generations"]) == 1)
        counts["at the end"] = tunnels(it), 0
        left = it.stop()
        with open(os.path.join(it.dir, "access.log")) as f:
            ends = collections.Counter(x["term"] for x in map(json.loads, f) if x["status"] == 101)
        counts["in the access log, cut"] = ends["drain_tunnel"], SILENT
        counts["in the access log, whole"] = ends["complete"], SOCKETS - SILENT
        r.bound("processes left after its end", 0, len(left))
    broken = {q: [h for h in held if h.quiet == q and h.ended] for q in (True, False)}
    for quiet, title in ((False, "that send"), (True, "that fell silent")):
        xs, cut = [h for h in held if h.quiet == quiet], [h.ended[0] for h in broken[quiet]]
        r.rows.append([f"{len(xs)} {title}", sum(h.echoed for h in xs), sum(h.wrong for h in xs), len(cut),
                       round(min(cut) - times["began"], 1) if cut else "-", round(max(cut) - times["ended"], 1) if cut else "-"])
    r.bound("broken that send", 0, len(broken[False]))
    r.bound("silent ones broken before half of the limit", 0, sum(h.ended[0] < times["began"] + TUNNEL / 2 for h in broken[True]))
    r.bound("silent ones not cut a second after the limit", 0, SILENT - sum(h.ended[0] < times["ended"] + TUNNEL + 1 for h in broken[True]))
    r.bound("wrong echoes", 0, sum(h.wrong for h in held))
    for what, (said, is_so) in counts.items():
        r.bound(f"counted {what}: {said}, and are {is_so}; off by", 0, abs(said - is_so))
    r.notes.append(f"websockets {version}, Python {sys.version.split()[0]}; `drain.tunnel` {TUNNEL} s; rollout {times['ended'] - times['began']:.1f} s. " + "; ".join(h.ended[1] for h in broken[False][:2]))
    return r


PARTS = {"workers": workers, "rollouts": rollouts, "growth": growth, "idle": idle, "websockets": websockets}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--parts", default=",".join(PARTS), help="comma list (default: all)")
    ap.add_argument("--bin", default=compare.REMUDA_BIN, help="the remuda to measure (default target/dist/remuda)")
    ap.add_argument("--rounds", type=int, default=5, help="rounds of the part workers (default 5)")
    ap.add_argument("--secs", type=int, default=2, help="seconds of each run of the part workers (default 2)")
    ap.add_argument("--pairs", type=int, default=2, help="seconds per instance after each rollout (default 2)")
    ap.add_argument("--json", help="write the results here")
    ap.add_argument("--md", help="write the tables here (also printed)")
    a = ap.parse_args()
    instance.end_with_finally()
    instance.need("wrk", "h2load", "cc", "taskset")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < 16384:
        sys.exit(f"only {hard} descriptors are allowed (`ulimit -Hn`); 16384 are needed")
    compare.NOFILE = (20000, hard) if hard == resource.RLIM_INFINITY or hard >= 20000 else (hard, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, compare.NOFILE)
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("two CPUs are needed, one for the proxy and one for the load")
    tmp = tempfile.mkdtemp(prefix="scale-")
    a.origin = os.path.join(tmp, "origin")
    a.bin = os.path.abspath(a.bin)
    results, broken = [], []
    try:
        subprocess.run(["cc", "-O2", "-o", a.origin, os.path.join(compare.HERE, "origin.c")], check=True)
        for name in a.parts.split(","):
            began = time.time()
            try:
                results.append(instance.bounded(90, name, PARTS[name], a, tmp))
            except Missed as e:
                log(f"{name}: {e}")
                broken.append(f"{name}: {e}")
            log(f"{name}: {time.time() - began:.0f} s")
    finally:
        shutil.rmtree(tmp, ignore_errors=True)
    md = "\n".join([instance.where(a.bin)] + [r.markdown() for r in results] + [f"\nNot measured: {b}" for b in broken])
    print(md)
    if a.md:
        with open(a.md, "w") as f:
            f.write(md + "\n")
    if a.json:
        with open(a.json, "w") as f:
            json.dump({"machine": instance.where(a.bin), "parts": {r.name: r.data() for r in results}, "not_measured": broken}, f, indent=1)
    sys.exit(2 if broken else 1 if any(not b["kept"] for r in results for b in r.bounds) else 0)


if __name__ == "__main__":
    main()

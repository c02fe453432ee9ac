// The status page. It reads /v1/status and follows /v1/events, and changes nothing. Text from outside goes
// into the document as text nodes only, never as markup.
"use strict";

const KEPT_EVENTS = 200;
const POLL = 2000; // between two looks while nothing is heard
const RETRY = 1000; // before the stream is opened again
const SILENCE = 40000; // the heartbeat comes each 15 s

const STEPS = ["starting", "ramping", "soaking", "retiring", "finishing"];
const SYMBOLS = {
  starting: "◔", ready: "●", draining: "◑", terminating: "◌", killing: "✕", backoff: "↻",
  passing: "✓", failing: "✗", unknown: "?",
  stable: "●", candidate: "◆", parked: "□", retiring: "◑",
  pending: "…", running: "→", paused: "‖", completed: "✓", rolling_back: "←", rolled_back: "↶",
  failed: "✗", superseded: "⇥",
  pass: "✓", fail: "✗", not_enough: "?",
};

const $ = (id) => document.getElementById(id);
let status = null;
let seenAt = 0; // when the last answer came, on this page's clock
let skew = 0; // the server's clock minus ours, in ms
let stream = "connecting"; // connecting, live, polling
let lastId = null;
let events = [];
const views = new Map();

// ---- documents ----

function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined).map((child) => (child instanceof Node ? child : String(child))));
  return node;
}

// Changes the document only if there is something new to say: selections and screen readers stay calm.
function put(node, key, make) {
  if (node.shown === key) return;
  node.shown = key;
  node.replaceChildren(...[make()].flat().filter(Boolean));
}

function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function word(kind, text) {
  const symbol = el("span", { class: "symbol", "aria-hidden": "true" }, SYMBOLS[kind] || "·");
  return el("span", { class: `word is-${/^[a-z_]+$/.test(kind) ? kind : "other"}` }, symbol, text || kind.replaceAll("_", " "));
}

function bar(share, label, kind) {
  const fill = el("span", { class: "fill" });
  fill.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
  return el("span", { class: `bar ${kind || ""}`, role: "progressbar", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round(share * 100) }, fill);
}

// ---- words ----

const now = () => Date.now() + skew;
const plural = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
const percent = (share) => `${Math.round(share * 100)} %`;

function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 100) return `${s} s`;
  if (s < 5400) return `${Math.floor(s / 60)} min`;
  if (s < 129600) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} d`;
}

const age = (at) => (at ? span((now() - Date.parse(at)) / 1000) : "–");

function rest(at) {
  const s = Math.round((Date.parse(at) - now()) / 1000);
  return s >= 60 && s < 600 ? `${Math.floor(s / 60)} min ${s % 60} s` : span(s);
}

const passed = (at) => Date.parse(at) <= now();
const left = (at) => (passed(at) ? "the deadline has passed" : `at most ${rest(at)} more`);

// Only a plain request's limit stands still; that of the others begins anew with each byte.
function limit(w) {
  if (!w.drain_deadline) return "no deadline";
  return w.in_flight_by_class.plain > 0 || passed(w.drain_deadline) ? left(w.drain_deadline) : `cut in ${rest(w.drain_deadline)} unless something moves`;
}

function memory(bytes) {
  if (bytes === null) return "–";
  if (bytes < 1e6) return `${Math.round(bytes / 1e3)} kB`;
  if (bytes < 1e9) return `${Math.round(bytes / 1e6)} MB`;
  return `${(bytes / 1e9).toFixed(1)} GB`;
}

function waiting(what) {
  if (!what) return null;
  const message = what.kind === "health" ? `${what.message}, for ${age(what.since)} now` : what.message;
  return what.deadline ? `${message}, ${left(what.deadline)}` : message;
}

function headline(service) {
  const r = service.rollout;
  if (r && !ended(r)) return `${r.state === "running" ? "Rolling" : r.state === "rolling_back" ? "Rolling back" : `Rollout ${r.state}`}: ${percent(r.progress)}`;
  const release = service.release ? `, release ${service.release}` : "";
  if (service.ready === 0) return "No worker is ready";
  if (service.ready < service.wanted) return `${service.ready} of ${plural(service.wanted, "worker")} ready`;
  const draining = service.generations.flatMap((g) => g.workers).filter((w) => w.state === "draining").length;
  if (draining) return `${plural(service.ready, "worker")} of generation ${service.generation}${release} ready, ${draining} draining`;
  return `Calm: ${plural(service.ready, "worker")} of generation ${service.generation}${release} ready`;
}

function classes(by) {
  const parts = [["upload", by.upload], ["stream", by.stream], ["tunnel", by.tunnel]].filter(([, n]) => n > 0);
  return parts.map(([name, n]) => plural(n, name)).join(", ");
}

const ended = (rollout) => rollout.ended_at !== null;

function rolloutSentence(r) {
  const to = r.release ? `generation ${r.to} (${r.release})` : `generation ${r.to}`;
  const where = ended(r) || r.step.of === 0 ? "" : `, batch ${Math.max(1, r.step.batch)} of ${r.step.of}`;
  return `Rollout ${r.id} to ${to}: ${r.state.replaceAll("_", " ")}${where}`;
}

// What stands between backticks is to be typed, or a name.
const ticked = (text) => text.split("`").map((part, index, all) => (index % 2 && index < all.length - 1 ? el("code", {}, part) : part));

// ---- one service ----

function view(name) {
  if (views.has(name)) return views.get(name);
  const v = {
    headline: el("p", { class: "headline" }),
    waits: el("p", { class: "waits" }),
    facts: el("p", { class: "quiet facts" }),
    live: el("p", { class: "rollout-line", "aria-live": "polite" }),
    rollout: el("div", { class: "rollout" }),
    failure: el("div", {}),
    generations: el("ul", { class: "generations" }),
    drains: el("ul", { class: "drains", "aria-label": "Draining" }),
    rows: el("tbody", {}),
  };
  const columns = ["Slot", "State", "Health", "Generation", "Pid", "Age", "In flight", "Memory"];
  const head = el("tr", {}, ...columns.map((column) => el("th", { scope: "col", title: column === "Memory" ? "of the worker's main process, without its children" : null }, column)));
  v.table = el("table", {}, el("caption", {}, `Workers of ${name}`), el("thead", {}, head), v.rows);
  v.card = el("div", { class: "card" }, v.live, v.rollout, v.failure);
  v.section = el("section", { class: "service" }, el("h2", {}, name), v.headline, v.waits, v.facts, v.card, v.generations, v.drains, v.table);
  views.set(name, v);
  return v;
}

function show(name, service) {
  const v = view(name);
  const trouble = service.ready === 0 ? "bad" : service.ready < service.wanted ? "warn" : "good";
  v.section.dataset.trouble = trouble;
  say(v.headline, headline(service));
  const waits = waiting(service.waiting_on);
  v.waits.hidden = waits === null;
  say(v.waits, waits === null ? "" : `Waiting for ${waits}`);
  const facts = [
    `${service.ready} ready, ${service.wanted} wanted`,
    `generation ${service.generation}`,
    service.release ? `release ${service.release}` : null,
    `${plural(service.in_flight, "request")} in flight`,
    service.parked ? `${plural(service.parked, "request")} parked` : null,
  ];
  say(v.facts, facts.filter(Boolean).join(" · "));
  showRollout(v, service.rollout, waits);
  showGenerations(v, service);
  const workers = service.generations.flatMap((g) => g.workers.map((w) => ({ ...w, role: g.role })));
  workers.sort((a, b) => a.slot - b.slot || a.generation - b.generation);
  showDrains(v, workers.filter((w) => w.state === "draining"));
  showWorkers(v, workers);
}

function showRollout(v, r, said) {
  v.card.hidden = r === null;
  if (!r) return;
  v.card.dataset.state = r.state;
  say(v.live, rolloutSentence(r));
  const own = ended(r) ? null : waiting(r.waiting_on);
  const waits = own === said ? null : own; // once is enough
  put(v.rollout, JSON.stringify([r, waits, ended(r) ? age(r.ended_at) : ""]), () => {
    const { ledger, counts } = r;
    const numbers = [
      `${plural(ledger.requests, "request")} meanwhile`,
      `${ledger.candidate.toLocaleString("en")} by the new generation`,
      `${ledger.retried.toLocaleString("en")} tried again`,
      plural(ledger.proxy_errors, "proxy error"),
    ];
    const steps = el("ol", { class: "steps" }, ...STEPS.map((step) => {
      const current = !ended(r) && r.step.name === step;
      const past = r.state === "completed" || STEPS.indexOf(step) < STEPS.indexOf(r.step.name);
      return el("li", { class: current ? "current" : past ? "past" : "", "aria-current": current ? "step" : null }, step);
    }));
    const verdicts = r.verdicts.map((verdict) => el("li", {}, word(verdict.verdict), ` batch ${verdict.batch}: ${verdict.message}`));
    return [
      el("div", { class: "progress" }, bar(r.progress, `Progress of rollout ${r.id}`, r.state), el("span", { class: "number" }, percent(r.progress))),
      el("p", { class: "line" }, word(r.state), ended(r) ? ` ${age(r.ended_at)} ago` : "", waits ? ` · ${waits}` : ""),
      ended(r) || r.state === "rolling_back" || r.state === "pending" ? null : steps,
      el("p", { class: "quiet" }, `${counts.candidate_ready} of ${counts.wanted} new ready · ${counts.stable_ready} old serve · ${counts.retiring} retire`),
      el("p", { class: "quiet" }, numbers.join(" · ")),
      verdicts.length ? el("ul", { class: "verdicts" }, ...verdicts) : null,
      ...(r.remarks ?? []).map((remark) => el("p", { class: "quiet" }, ...ticked(remark))),
    ];
  });
  showFailure(v, r);
}

// By itself: what is above counts seconds, and a box made anew each time could be neither read up nor copied from.
function showFailure(v, r) {
  put(v.failure, JSON.stringify([r.id, r.failure, r.verdicts]), () => (r.failure ? failure(r.failure, r.verdicts) : []));
}

function failure(f, verdicts) {
  const w = f.worker;
  const facts = w ? [`slot ${w.slot}`, w.pid === null ? null : `pid ${w.pid}`, w.exit, w.probe ? `last probe: ${w.probe}` : null].filter(Boolean).join(" · ") : "";
  const told = verdicts.some((verdict) => verdict.message === f.message);
  if (told && !w) return null;
  return el("div", { class: "failure" }, told ? null : el("p", {}, f.message), w ? el("p", { class: "quiet" }, facts) : null,
    w && w.output.length ? el("pre", { tabindex: "0", "aria-label": "Last output of the worker" }, w.output.join("\n")) : null);
}

function showGenerations(v, service) {
  put(v.generations, JSON.stringify(service.generations.map((g) => [g.number, g.role, g.release, g.weight, g.workers.length])), () =>
    service.generations.map((g) =>
      el("li", {},
        el("span", { class: "name" }, `Generation ${g.number}`, g.release ? el("span", { class: "quiet" }, ` ${g.release}`) : null),
        word(g.role),
        bar(g.weight, `Share of generation ${g.number}`, g.role),
        el("span", { class: "number" }, percent(g.weight)),
        el("span", { class: "quiet count" }, plural(g.workers.length, "worker")))));
}

function showDrains(v, draining) {
  v.drains.hidden = draining.length === 0;
  put(v.drains, JSON.stringify(draining.map((w) => [w.slot, w.generation, w.in_flight_by_class, w.drain_initial, limit(w)])), () =>
    draining.map((w) => {
      const first = Math.max(w.drain_initial || 0, w.in_flight);
      const kinds = classes(w.in_flight_by_class);
      return el("li", {},
        el("span", { class: "name" }, `Slot ${w.slot}`, el("span", { class: "quiet" }, ` generation ${w.generation}`)),
        bar(first ? 1 - w.in_flight / first : 1, `Drain of slot ${w.slot}`, "draining"),
        el("span", {}, `${w.in_flight} of ${plural(first, "request")} left${kinds ? ` (${kinds})` : ""}`),
        el("span", { class: "quiet" }, limit(w)));
    }));
}

function showWorkers(v, workers) {
  const rows = workers.map((w) => [
    ["Slot", w.slot],
    ["State", [w.state, w.state + (w.failures ? ` (${plural(w.failures, "failure")})` : "")]],
    ["Health", w.state === "starting" && w.health === "failing" ? ["unknown", "not yet"] : [w.health, w.health + (w.ejected ? " (ejected)" : w.state === "ready" && w.health === "failing" ? " (set aside)" : "")]],
    ["Generation", w.generation],
    ["Pid", w.pid === null ? "–" : w.pid],
    ["Age", age(w.started_at)],
    ["In flight", w.in_flight],
    ["Memory", memory(w.rss)],
  ]);
  put(v.rows, JSON.stringify(rows), () =>
    rows.map((row) => el("tr", {}, ...row.map(([label, value], column) => {
      const content = Array.isArray(value) ? word(value[0], value[1]) : value;
      return el(column === 0 ? "th" : "td", { "data-label": label, scope: column === 0 ? "row" : null }, content);
    }))));
}

// ---- the page ----

function render() {
  const age = (Date.now() - seenAt) / 1000;
  const isLost = status === null ? stream === "polling" : age > 6;
  $("lost").hidden = !isLost;
  if (isLost) {
    const since = status === null ? "nothing was heard yet" : `what you see is ${span(age)} old`;
    say($("lost"), `Connection lost: ${since}. Trying again…`);
  }
  $("link").dataset.state = isLost ? "lost" : stream;
  say($("link-text"), isLost ? "lost" : stream);
  document.body.classList.toggle("is-lost", isLost);
  if (!status) return;
  const planes = status.data_planes.map((plane) => `${plane.pid} ${plane.state}`).join(", ");
  const about = [`version ${status.version}`, `pid ${status.pid}`, planes ? `data plane ${planes}` : "no data plane", status.listeners.join(" "), status.state === "stopping" ? "STOPPING" : null];
  say($("about"), about.filter(Boolean).join(" · "));
  const notices = status.notices ?? [];
  $("notices").hidden = notices.length === 0;
  put($("notices"), JSON.stringify(notices), () => notices.map((notice) => el("li", {}, ...ticked(notice))));
  const names = Object.keys(status.services);
  for (const name of names) show(name, status.services[name]);
  for (const name of [...views.keys()]) if (!names.includes(name)) views.delete(name);
  put($("services"), JSON.stringify(names), () => (names.length ? names.map((name) => views.get(name).section) : [el("p", { class: "quiet" }, "No service.")]));
  const worst = names.map((name) => status.services[name]);
  const rolls = worst.find((service) => service.rollout && !ended(service.rollout));
  const ready = worst.reduce((sum, service) => sum + service.ready, 0);
  const wanted = worst.reduce((sum, service) => sum + service.wanted, 0);
  document.title = isLost ? "lost · remuda" : rolls ? `${percent(rolls.rollout.progress)} ${rolls.rollout.state.replaceAll("_", " ")} · remuda` : `${ready}/${wanted} · remuda`;
}

function showEvents() {
  $("no-events").hidden = events.length > 0;
  put($("events"), String(events.length && events[0].key) + events.length, () =>
    events.map(({ event }) => {
      const at = new Date(event.at);
      const time = Number.isNaN(at.getTime()) ? event.at : at.toLocaleTimeString([], { hour12: false });
      const bad = /fail|unhealthy|stuck|killing|nobody|gap/.test(event.type) || /rolled_back|rolling_back|failed/.test(String((event.data || {}).state));
      return el("li", { class: bad ? "bad" : "" }, el("time", { datetime: event.at }, time), el("span", { class: "kind" }, (bad ? "! " : "") + event.type.replaceAll("_", " ")),
        el("span", { class: "message" }, event.message));
    }));
}

let looking = false;
let again = false;

async function look() {
  if (looking) {
    again = true;
    return;
  }
  looking = true;
  try {
    const answer = await fetch("/v1/status", { cache: "no-store", signal: AbortSignal.timeout(5000) });
    if (!answer.ok) throw new Error(String(answer.status));
    status = await answer.json();
    seenAt = Date.now();
    const date = Date.parse(answer.headers.get("date"));
    // The header is cut to seconds: only a clock that is really off matters.
    if (!Number.isNaN(date) && Math.abs(date - Date.now()) > 2000) skew = date - Date.now();
  } catch {
    // Said by the banner, from the age of the last answer.
  }
  looking = false;
  render();
  if (again) {
    again = false;
    setTimeout(look, 150);
  }
}

let following = null;

async function follow() {
  const mine = new AbortController();
  following = mine;
  let silence = 0;
  const heard = () => {
    clearTimeout(silence);
    silence = setTimeout(() => mine.abort(), SILENCE);
  };
  try {
    const headers = lastId === null ? {} : { "Last-Event-ID": lastId };
    heard();
    const answer = await fetch("/v1/events?since=0", { headers, cache: "no-store", signal: mine.signal });
    if (!answer.ok) throw new Error(String(answer.status));
    stream = "live";
    look();
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      heard();
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      if (blocks.map(take).some(Boolean)) {
        showEvents();
        look();
      }
    }
  } catch {
    // Falls back to polling below.
  }
  clearTimeout(silence);
  if (following !== mine) return; // the tab was hidden, or a newer stream took over
  stream = "polling";
  render();
  setTimeout(() => following === mine && follow(), RETRY);
}

function take(block) {
  let id = null;
  let data = "";
  for (const line of block.split("\n")) {
    if (line.startsWith("id: ")) id = line.slice(4);
    if (line.startsWith("data: ")) data += line.slice(6);
  }
  if (!data) return false;
  // A smaller number comes from a supervisor started anew: its story begins here.
  if (id !== null && lastId !== null && Number(id) <= Number(lastId)) events = [];
  if (id !== null) lastId = id;
  try {
    const event = JSON.parse(data);
    events.unshift({ key: id || `gap ${event.message}`, event });
    events.length = Math.min(events.length, KEPT_EVENTS);
  } catch {
    return false;
  }
  return true;
}

// A hidden tab holds no stream: browsers have few connections to one host.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    const old = following;
    following = null;
    if (old) old.abort();
    stream = "polling";
  } else {
    look();
    if (!following) follow();
  }
});

setInterval(() => document.hidden || render(), 1000);
setInterval(() => document.hidden || look(), POLL);
look();
follow();

// Live updates, the drawing of days, the steps of a session, and the keyboard. Everything that comes from a log is set as
// text, never as markup.
"use strict";

const ROW = 28;
const AHEAD = 12;
const one = (selector, root = document) => root.querySelector(selector);
const made = (tag, classes, text) => {
  const element = document.createElement(tag);
  if (classes) element.className = classes;
  if (text !== undefined) element.textContent = text;
  return element;
};

// ---------------------------------------------------------------- live

const listeners = [];
function follow() {
  const shown = one("#live");
  const source = new EventSource("/live");
  let opened = false;
  const tell = (name) => document.body.dispatchEvent(new CustomEvent(name));
  const changed = (sessions) => {
    tell("live");
    for (const listener of listeners) listener(sessions);
  };
  source.onopen = () => {
    shown.textContent = "live";
    // Nobody told what changed while there was no connection.
    if (opened) changed([]);
    opened = true;
  };
  source.onerror = () => { shown.textContent = source.readyState === 2 ? "ended" : "connecting"; };
  source.addEventListener("change", (message) => changed(JSON.parse(message.data)));
  source.addEventListener("running", () => tell("running"));
  // The browser keeps few connections to one host, and a page that is left may linger.
  addEventListener("pagehide", () => source.close());
}

// ---------------------------------------------------------------- dollars by day

const COLORS = ["#4263eb", "#e8890c", "#2f9e44", "#9c36b5", "#0c8599", "#e03131", "#846358", "#868e96"];
let chart = null;

async function draw() {
  const place = one("#days");
  if (!place) return;
  const answer = await fetch(`/data/days?by=${encodeURIComponent(one("#stack").value)}`);
  if (!answer.ok) return;
  const found = await answer.json();
  const at = found.days.map((day) => new Date(`${day}T12:00:00`).getTime() / 1000);
  // Each bar stands on the one before it: the sums are drawn from the tallest down.
  const sums = found.days.map(() => 0);
  const stacked = found.series.map((each) => each.dollars.map((dollars, day) => (sums[day] += dollars)));
  const style = getComputedStyle(document.body);
  const axis = { stroke: style.getPropertyValue("--quiet"), grid: { stroke: style.getPropertyValue("--line") }, ticks: { show: false } };
  const order = found.series.map((_, number) => number).reverse();
  const options = {
    width: place.clientWidth, height: 280, cursor: { drag: { x: false, y: false } }, legend: { live: true },
    // Each bar stands at noon of its day: the first and the last day are as wide as the others.
    scales: { x: { time: true, range: (_, first, last) => [first - 43200, last + 43200] }, y: { range: (_, low, high) => [0, Math.max(high, 0.01) * 1.05] } },
    axes: [axis, { ...axis, size: 70, values: (_, values) => values.map((value) => `$${value.toFixed(2)}`) }],
    series: [{ label: "day", value: (_, value) => value == null ? "-" : new Date(value * 1000).toLocaleDateString() }, ...order.map((number) => ({
      label: found.series[number].name,
      fill: COLORS[number % COLORS.length], stroke: COLORS[number % COLORS.length], width: 0, points: { show: false },
      paths: uPlot.paths.bars({ size: [0.7, 60] }),
      value: (_, __, ___, day) => day == null ? "-" : `$${found.series[number].dollars[day].toFixed(2)}`,
    }))],
  };
  if (chart) chart.destroy();
  place.replaceChildren();
  chart = new uPlot(options, [at, ...order.map((number) => stacked[number])], place);
  const table = one("#days-table");
  const head = made("tr");
  for (const name of ["day", ...found.series.map((each) => each.name), "tokens"]) head.append(made("th", "", name));
  table.replaceChildren(head, ...found.days.map((day, number) => {
    const row = made("tr");
    row.append(made("th", "", day), ...found.series.map((each) => made("td", "number", `$${each.dollars[number].toFixed(2)}`)), made("td", "number", found.tokens[number].toLocaleString("en")));
    return row;
  }).reverse());
}

// ---------------------------------------------------------------- steps of a session

class Steps {
  constructor(place) {
    this.place = place;
    this.inner = one("#steps-inner");
    this.session = place.dataset.session;
    this.steps = [];
    this.labels = new Map();
    this.rows = new Map();
    this.chosen = -1;
    this.asking = false;
    this.asked = 0;
    this.shown = 0;
    place.addEventListener("scroll", () => requestAnimationFrame(() => this.show()), { passive: true });
    place.addEventListener("click", (event) => {
      const row = event.target.closest(".row");
      if (row) this.choose(Number(row.dataset.number), true);
    });
    addEventListener("resize", () => this.show());
  }

  async load() {
    const turn = ++this.asked;
    const answer = await fetch(`/data/sessions/${encodeURIComponent(this.session)}/steps`);
    if (!answer.ok) return;
    const { steps: found } = await answer.json();
    // A later question may be answered first.
    if (turn < this.shown) return;
    this.shown = turn;
    const atEnd = this.place.scrollTop + this.place.clientHeight >= this.inner.clientHeight - ROW;
    const uuid = this.chosen >= 0 ? this.steps[this.chosen][0] : null;
    this.steps = found;
    this.first = Math.min(...this.steps.map((step) => step[3]));
    this.last = Math.max(...this.steps.map((step) => step[4]));
    this.inner.style.height = `${this.steps.length * ROW}px`;
    for (const row of this.rows.values()) row.remove();
    this.rows.clear();
    this.chosen = uuid ? this.steps.findIndex((step) => step[0] === uuid) : this.chosen;
    if (atEnd && this.loaded) this.place.scrollTop = this.inner.clientHeight;
    this.loaded = true;
    this.place.setAttribute("aria-label", `${this.steps.length} steps`);
    this.show();
  }

  show() {
    const from = Math.max(0, Math.floor(this.place.scrollTop / ROW) - AHEAD);
    const to = Math.min(this.steps.length, Math.ceil((this.place.scrollTop + this.place.clientHeight) / ROW) + AHEAD);
    for (const [number, row] of this.rows) {
      if (number < from || number >= to) { row.remove(); this.rows.delete(number); }
    }
    for (let number = from; number < to; number++) {
      if (!this.rows.has(number)) {
        const row = this.row(number);
        this.rows.set(number, row);
        this.inner.append(row);
      }
    }
    this.ask();
  }

  row(number) {
    const [uuid, kind, depth, started, ended, name, status, failed, tokens, dollars] = this.steps[number];
    const row = made("div", `row ${kind}${failed ? " failed" : ""}`);
    row.id = `step-${number}`;
    row.dataset.number = number;
    row.setAttribute("role", "option");
    row.setAttribute("aria-selected", number === this.chosen);
    row.setAttribute("aria-setsize", this.steps.length);
    row.setAttribute("aria-posinset", number + 1);
    row.style.top = `${number * ROW}px`;
    const what = made("span", "what");
    what.style.paddingLeft = `${Math.min(depth, 12) * 14}px`;
    what.append(made("span", "", kind === "wait" ? "waiting for a person" : name || kind));
    if (status && status !== "ok") what.append(made("span", "label", status));
    what.append(made("span", "asked"), made("span", "label text"));
    const took = (ended - started) / 1000;
    const figures = [dollars || tokens, took >= 60 ? `${Math.floor(took / 60)}m${String(Math.round(took % 60)).padStart(2, "0")}s` : `${took.toFixed(took < 10 ? 1 : 0)}s`];
    row.append(what, made("span", "figures", figures.filter(Boolean).join("  ")));
    const track = made("span", "track");
    const bar = made("span", "bar");
    const whole = Math.max(1, this.last - this.first);
    bar.style.left = `${(100 * (started - this.first)) / whole}%`;
    bar.style.width = `${(100 * (ended - started)) / whole}%`;
    track.append(bar);
    row.append(track);
    this.name(row, uuid);
    return row;
  }

  // The prompt that a step is the first to answer, and what it says or does.
  name(row, uuid) {
    const [asked, words] = this.labels.get(uuid) || ["", ""];
    one(".asked", row).textContent = asked && `> ${asked}`;
    one(".text", row).textContent = words;
  }

  // Labels are content, so they are fetched only for what is seen.
  async ask() {
    if (this.asking) return;
    const missing = [...this.rows.keys()].map((number) => this.steps[number][0]).filter((uuid) => uuid && !this.labels.has(uuid)).slice(0, 80);
    if (!missing.length) return;
    this.asking = true;
    try {
      const answer = await fetch(`/data/sessions/${encodeURIComponent(this.session)}/labels?${missing.map((uuid) => `u=${uuid}`).join("&")}`);
      const found = answer.ok ? await answer.json() : {};
      for (const uuid of missing) this.labels.set(uuid, found[uuid] || ["", ""]);
      for (const [number, row] of this.rows) this.name(row, this.steps[number][0]);
    } finally {
      this.asking = false;
    }
    requestAnimationFrame(() => this.ask());
  }

  choose(number, open) {
    if (number < 0 || number >= this.steps.length) return;
    const before = this.rows.get(this.chosen);
    if (before) before.setAttribute("aria-selected", "false");
    this.chosen = number;
    const top = number * ROW;
    if (top < this.place.scrollTop) this.place.scrollTop = top;
    if (top + ROW > this.place.scrollTop + this.place.clientHeight) this.place.scrollTop = top + ROW - this.place.clientHeight;
    this.show();
    const row = this.rows.get(number);
    if (row) row.setAttribute("aria-selected", "true");
    this.place.setAttribute("aria-activedescendant", `step-${number}`);
    const uuid = this.steps[number][0];
    if (open && uuid) htmx.ajax("GET", `/parts/sessions/${encodeURIComponent(this.session)}/steps/${uuid}`, { target: "#step", swap: "innerHTML" });
  }
}

// ---------------------------------------------------------------- keyboard

let steps = null;
let leading = false;
let chosen = null;

let focused = null;

// A part that is made anew while it is live keeps the row that was chosen, and the link that has the focus.
function remember(event) {
  const element = document.activeElement;
  focused = event.detail.target.contains(element) ? element.getAttribute("href") : null;
}

function keep(event) {
  const links = [...event.detail.target.querySelectorAll("a")];
  const link = (address) => links.find((each) => address && each.getAttribute("href") === address);
  link(chosen)?.closest("[data-row]")?.classList.add("chosen");
  link(focused)?.focus({ preventScroll: true });
}

function move(by) {
  if (steps) { steps.choose(Math.max(0, steps.chosen + by), true); return; }
  const rows = [...document.querySelectorAll("[data-row]")];
  if (!rows.length) return;
  const now = rows.findIndex((row) => row.classList.contains("chosen"));
  const next = rows[Math.min(rows.length - 1, Math.max(0, now + by))];
  if (now >= 0) rows[now].classList.remove("chosen");
  next.classList.add("chosen");
  next.scrollIntoView({ block: "nearest" });
  const link = one("a", next);
  chosen = link.getAttribute("href");
  link.focus({ preventScroll: true });
}

function press(event) {
  const typing = event.target.closest("input, select, textarea, dialog");
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (typing) {
    if (event.key === "Escape" && !event.target.closest("dialog")) event.target.blur();
    return;
  }
  if (leading) {
    leading = false;
    const page = { o: "/", s: "/sessions", d: "/delivery" }[event.key];
    if (page) location.assign(page);
    return;
  }
  if (event.key === "j" || (steps && event.key === "ArrowDown")) move(1);
  else if (event.key === "k" || (steps && event.key === "ArrowUp")) move(-1);
  else if (event.key === "Enter" && steps && event.target === steps.place) steps.choose(steps.chosen, true);
  else if (event.key === "g") leading = true;
  else if (event.key === "?") one("#keys").showModal();
  else if (event.key === "/") {
    const search = one('input[type="search"]');
    if (search) search.focus(); else location.assign("/sessions");
  } else return;
  event.preventDefault();
}

document.addEventListener("DOMContentLoaded", () => {
  follow();
  document.addEventListener("keydown", press);
  document.body.addEventListener("htmx:beforeSwap", remember);
  document.body.addEventListener("htmx:afterSwap", keep);
  one("#help").addEventListener("click", () => one("#keys").showModal());
  if (one("#days")) {
    draw();
    one("#stack").addEventListener("change", draw);
    let due = null;
    listeners.push(() => { due ??= setTimeout(() => { due = null; draw(); }, 2000); });
    addEventListener("resize", () => { if (chart) chart.setSize({ width: one("#days").clientWidth, height: 280 }); });
  }
  if (one("[data-passes]")) setTimeout(() => location.reload(), 1000);
  const place = one("#steps");
  if (place) {
    steps = new Steps(place);
    steps.load();
    listeners.push((sessions) => { if (!sessions.length || sessions.includes(steps.session)) steps.load(); });
  }
});

// Everything beside the picture: figures, the plot of latencies, settings and classes.
const $ = (id) => document.getElementById(id);
const HOLD = 700; // milliseconds for which a control that was just moved is not set from outside
const PACE = 60; // milliseconds between two messages of a slider under the hand
const KEPT = 120; // latencies in the plot
const TONES = { open: "good", reopening: "warn", ended: "wait" };
const MANY = 12; // classes from which on one can be searched for

let change = () => {};
let latest = null;
let dirty = false;
const latencies = [];
const touched = new Map(); // setting -> when it was moved here
const rows = new Map(); // class -> {row, box, count}

export function start(hello, tell) {
  change = tell;
  document.title = `${hello.title} - solov2-edge live`;
  $("source").textContent = hello.title;
  $("source").title = hello.title;
  latencies.length = 0;
  if ([...rows.keys()].join("\n") !== hello.classes.join("\n")) buildClasses(hello.classes);
}

export function say(tone, word, veil = "") {
  const state = $("state");
  if (state.textContent !== word) state.textContent = word;
  state.dataset.tone = tone;
  if ($("veil").textContent !== veil) $("veil").textContent = veil;
}

export function show(state) {
  if (state.number !== latest?.number && state.number > 0) {
    latencies.push([performance.now(), state.latency]);
    if (latencies.length > KEPT) latencies.shift();
  }
  latest = state;
  dirty = true;
}

setInterval(() => {
  if (!dirty) return;
  dirty = false;
  const { statistics, settings } = latest;
  const many = (value, digits) => (latest.number ? value.toFixed(digits) : "\u2013");
  $("fps").textContent = many(statistics.fps, 1);
  $("p50").textContent = many(statistics.latency, 0);
  $("p95").textContent = many(statistics.latency_p95, 0);
  $("count").textContent = many(latest.instances, 0);
  $("dropped").textContent = many(statistics.dropped, 0);
  const all = statistics.frames + statistics.dropped;
  $("dropped-note").textContent = statistics.dropped
    ? `frames dropped (${((100 * statistics.dropped) / all).toFixed(0)}\u00a0%)`
    : "frames dropped";
  $("dropped-note").title = `${statistics.corrupt} corrupt, source reopened ${statistics.reopened} times`;
  plot();
  settle(settings);
  counts(settings);
  badge(statistics, settings);
}, 200);

function badge({ state, message }, { paused, recording }) {
  if (latest.number === 0) {
    return say("wait", state === "open" ? "starting" : state, message || "Waiting for the first frame");
  }
  if (paused) return say("warn", "paused", "Paused");
  if (state !== "open") return say(TONES[state] ?? "bad", state, message || `Source: ${state}`);
  if (latest.age > 3) return say("warn", "waiting", `No new frame for ${latest.age.toFixed(0)} s`);
  say("good", recording ? "live, recording" : "live");
}

function plot() {
  if (latencies.length < 2) return;
  const values = latencies.map(([, value]) => value);
  // One frame that took very long does not flatten the others; it touches the top.
  const middle = [...values].sort((a, b) => a - b)[values.length >> 1];
  const most = Math.max(Math.min(Math.max(...values), 4 * middle), 1);
  const step = 10 ** Math.floor(Math.log10(most));
  const top = Math.ceil(most / step) * step;
  const first = KEPT - latencies.length;
  const points = values.map((value, i) => `${first + i},${(39.5 - 38 * Math.min(value / top, 1)).toFixed(1)}`);
  $("curve").setAttribute("points", points.join(" "));
  $("top").textContent = top;
  $("span").textContent = `last ${((performance.now() - latencies[0][0]) / 1000).toFixed(0)} s`;
}

function moved(name) {
  touched.set(name, performance.now());
}

function held(name) {
  return performance.now() - (touched.get(name) ?? -HOLD) < HOLD;
}

function settle(settings) {
  for (const [name, id] of [["score_threshold", "score"], ["alpha", "alpha"]]) {
    if (held(name)) continue;
    $(id).value = settings[name];
    $(`${id}-out`).textContent = settings[name].toFixed(2);
  }
  if (!held("labels")) $("labels").checked = settings.labels;
  if (!held("paused")) pressed(settings.paused);
  if (held("classes")) return;
  for (const [name, { box }] of rows) box.checked = settings.classes === null || settings.classes.includes(name);
}

function pressed(paused) {
  $("pause").setAttribute("aria-pressed", paused);
  $("pause").textContent = paused ? "Go on" : "Pause";
}

function slider(id, name) {
  let timer = 0;
  $(id).addEventListener("input", () => {
    moved(name);
    $(`${id}-out`).textContent = Number($(id).value).toFixed(2);
    timer ||= setTimeout(() => {
      timer = 0;
      change({ [name]: Number($(id).value) });
    }, PACE);
  });
}

slider("score", "score_threshold");
slider("alpha", "alpha");
$("labels").addEventListener("change", () => {
  moved("labels");
  change({ labels: $("labels").checked });
});
$("pause").addEventListener("click", () => {
  const paused = $("pause").getAttribute("aria-pressed") !== "true";
  moved("paused");
  pressed(paused);
  change({ paused });
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, button, a")) return;
  if (event.key === " ") $("pause").click();
  else if (event.key === "s") $("snapshot").click();
  else return;
  event.preventDefault();
});

function buildClasses(names) {
  rows.clear();
  $("classes").replaceChildren();
  for (const name of names) {
    const row = document.createElement("li");
    const label = row.appendChild(document.createElement("label"));
    const box = label.appendChild(document.createElement("input"));
    const text = label.appendChild(document.createElement("span"));
    const count = label.appendChild(document.createElement("b"));
    box.type = "checkbox";
    box.checked = true;
    text.textContent = name;
    count.textContent = "0";
    box.addEventListener("change", choose);
    rows.set(name, { row, box, count });
    $("classes").append(row);
  }
  $("find").hidden = names.length <= MANY;
}

function choose() {
  moved("classes");
  const chosen = [...rows].filter(([, { box }]) => box.checked).map(([name]) => name);
  change({ classes: chosen.length === rows.size ? null : chosen });
}

function chooseAll(checked) {
  for (const { row, box } of rows.values()) if (!row.hidden) box.checked = checked;
  choose();
}

$("all").addEventListener("click", () => chooseAll(true));
$("none").addEventListener("click", () => chooseAll(false));
$("find").addEventListener("input", () => {
  const wanted = $("find").value.trim().toLowerCase();
  for (const [name, { row }] of rows) row.hidden = !name.toLowerCase().includes(wanted);
});

function counts({ classes }) {
  for (const [name, { row, count }] of rows) {
    const found = String(latest.counts[name] ?? 0);
    if (count.textContent !== found) count.textContent = found;
    row.classList.toggle("absent", found === "0");
  }
  $("classes-note").textContent = classes === null ? "all shown" : `${classes.length} of ${rows.size} shown`;
}

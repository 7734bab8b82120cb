// The live page: asks the controller for a model's view, shows it, and goes on asking.

import { drawChart, legend } from "./chart.js";
import { h, s, show, tipped } from "./dom.js";
import * as f from "./format.js";

const EVERY = 2000, SLOWEST = 15000, PATIENCE = 10000, FEW_EVENTS = 12;
const $ = (id) => document.getElementById(id);
const LONG = 220, BEGINNING = 150, opened = new Set();
let model = null, view = null, tag = null, failures = 0, timer = 0, now = new Date(), allEvents = false;

/* ---- what is shown ---- */

const pill = (text, kind = "") => h("span", { class: `pill ${kind}` }, text);
const empty = (text) => h("p", { class: "empty" }, text);
const stamp = (at) => h("time", { datetime: at.toISOString(), title: `${f.moment(at)} UTC` }, f.ago(at, now));

/** A text that is folded after its beginning where it is long; what a person opened stays open. */
function folded(key, text) {
  if (text.length <= LONG) return text;
  const end = text.lastIndexOf(" ", BEGINNING), mark = `${key} ${text}`;
  const remember = (event) => { if (event.currentTarget.open) opened.add(mark); else opened.delete(mark); };
  return h("details", { class: "folded", open: opened.has(mark), ontoggle: remember }, h("summary", {}, text.slice(0, end), h("span", { class: "rest" }, " … more")), text.slice(end + 1));
}

function read(raw) {
  const date = (text) => (text ? new Date(text) : null);
  for (const w of raw.windows) w.from = date(w.window_from);
  return raw;
}

const champions = (v) => v.windows.filter((w) => w.role === "champion");
const worseThan = (c, value, limit) => limit !== null && value !== null && (c.greater_is_better ? value < limit : value > limit);

function head(v) {
  return [h("h1", {}, v.contract.name), h("p", {}, v.contract.description || `${v.contract.task}, judged by ${f.metricName(v.contract.primary).toLowerCase()}`)];
}

function tile(title, big, text, { badge, first } = {}) {
  return h("div", { class: first ? "tile first" : "tile" }, h("h2", {}, title, first && badge), h("div", { class: "big" }, big), h("p", {}, text), !first && badge);
}

function primaryTile(v) {
  const c = v.contract, name = f.metricName(c.primary), newest = champions(v).filter((w) => w.mature && w.value !== null).at(-1);
  if (!newest) {
    const due = v.first_labels_due ? `No labels yet: the first are due on ${f.moment(new Date(v.first_labels_due), now)}.` : v.windows.length ? "No window is mature yet." : "Nothing is predicted yet.";
    return tile(name, "–", due, { first: true });
  }
  const below = worseThan(c, newest.high !== null && c.greater_is_better ? newest.high : newest.low ?? newest.value, c.floor);
  const near = worseThan(c, newest.value, c.floor);
  const badge = c.floor === null ? null : below ? pill(c.greater_is_better ? "below the floor" : "above the ceiling", "bad") : near ? pill("may be past the limit", "warn") : pill(c.greater_is_better ? "above the floor" : "below the ceiling", "good");
  return tile(name, [f.metric(c.primary, newest.value), " ", h("small", {}, f.interval(c.primary, newest.low, newest.high))],
    `Version ${newest.version} on ${f.windowName(newest.from, c.window_seconds)}, ${f.count(newest.labelled)} labels`, { badge, first: true });
}

function estimateTile(v) {
  const c = v.contract, newest = champions(v).filter((w) => w.estimate && w.maturity !== "open").at(-1);
  if (!newest) return tile("Estimate", "–", v.contract.task === "regression" ? "Scores of a regression promise nothing." : "No window is over yet.");
  const { value, low, high, unreliable } = newest.estimate;
  return tile("Estimate", f.metric(c.primary, value), unreliable ? "Labels contradict it: do not rely on it." : `${f.interval(c.primary, low, high)}, without labels`,
    { badge: unreliable ? pill("unreliable", "warn") : null });
}

function coverageTile(v) {
  const settled = champions(v).filter((w) => w.mature || w.maturity === "unlabelled").at(-1);
  if (!settled) return tile("Coverage", v.predicted ? f.share(v.labelled / v.predicted) : "–", v.predicted ? "of all so far; labels still come" : "No predictions yet.");
  const low = settled.coverage < v.contract.mature_coverage;
  return tile("Coverage", f.share(settled.coverage), `${f.share(v.contract.mature_coverage)} expected`, { badge: low ? pill("low", "warn") : null });
}

function tiles(v) {
  const promised = v.contract.label_delay_seconds;
  const champion = v.versions.find((one) => one.version === v.champion);
  // The registry goes by the machine's clock, which a simulated one may be far behind.
  const registered = champion?.created_at ? new Date(champion.created_at) : null;
  return [
    primaryTile(v),
    estimateTile(v),
    coverageTile(v),
    v.delay ? tile("Label delay", f.duration(v.delay.p50), `9 of 10 within ${f.duration(v.delay.p90)}`, { badge: promised && v.delay.p90 > promised ? pill("late", "warn") : null })
      : tile("Label delay", "–", promised ? `${f.duration(promised)} promised` : "none promised"),
    tile("Predictions", f.compact(v.predicted), v.newest_prediction ? ["newest ", stamp(new Date(v.newest_prediction))] : "none yet"),
    tile("Champion", v.champion ? `v${v.champion}` : "–", !v.champion ? "No version is accepted yet." : v.candidate && v.candidate !== v.champion ? `v${v.candidate} is the candidate` : registered && registered <= now ? ["registered ", stamp(registered)] : "no candidate"),
  ];
}

function table(v) {
  const c = v.contract;
  const columns = ["Window", "Version", "Predicted", "Labelled", f.metricName(c.primary), "95% interval", "Estimate", "State"];
  return h("table", {}, h("caption", { class: "hidden" }, "Windows, the newest first"),
    h("thead", {}, h("tr", {}, columns.map((text, place) => h("th", { scope: "col", class: place < 2 || place === 7 ? "text" : null }, text)))),
    h("tbody", {}, [...v.windows].reverse().map((w) => h("tr", { class: w.mature ? null : "soft" },
      h("td", {}, f.windowName(w.from, c.window_seconds)), h("td", { class: "text" }, `${w.version} ${w.role}`), h("td", {}, f.count(w.predicted)),
      h("td", {}, `${f.count(w.labelled)} (${f.share(w.coverage)})`), h("td", {}, f.metric(c.primary, w.value)), h("td", {}, f.interval(c.primary, w.low, w.high) || "–"),
      h("td", {}, w.estimate ? f.metric(c.primary, w.estimate.value) + (w.estimate.unreliable ? " (unreliable)" : "") : "–"),
      h("td", { class: "text" }, f.MATURITY[w.maturity] ?? w.maturity)))));
}

function traffic(v) {
  if (!v.versions.length) return empty("Nothing is served here yet.");
  const kind = (one) => (one.role === "champion" ? "" : one.role ? "other" : "none");
  const live = v.versions.filter((one) => one.share > 0);
  return [
    live.length > 0 && h("div", { class: "split", role: "img", "aria-label": live.map((one) => `version ${one.version} ${one.share}%`).join(", ") },
      live.map((one) => h("i", { class: kind(one), style: { "flex-grow": one.share } }))),
    h("ul", { class: "rows" }, v.versions.map((one) => h("li", {}, h("i", { class: `swatch ${kind(one)}` }),
      h("span", { class: "grow" }, h("b", {}, `v${one.version}`), " ", h("span", { class: "dim" }, one.role || one.aliases.join(", ") || "registered"),
        one.ready === false && h("div", { class: "small dim" }, one.message || "not ready")),
      one.ready === false ? pill("not ready", "warn") : null, h("b", {}, one.share === null ? "not running" : `${one.share}\u202f%`)))),
  ];
}

const ROLLOUT = { promoted: "good", baking: "accent", rolled_back: "bad", aborted: "warn", paused: "warn" };

function steps(v, r) {
  const names = ["shadow", ...v.contract.steps.filter((one) => one < 100).map(String), "full", "champion"];
  const crowned = ["baking", "promoted"].includes(r.state), live = r.share > 0;
  const here = crowned ? "champion" : r.state === "full" ? "full" : live && r.share < 100 ? String(r.share) : r.over ? null : r.state;
  const at = names.indexOf(here);
  const bad = r.state === "rolled_back" || r.state === "aborted";
  if (bad) return null;
  const label = (name) => (/^\d+$/.test(name) ? `${name}\u202f%` : name === "full" ? "100\u202f%" : name);
  return h("ol", { class: "steps", "aria-label": "Steps" }, names.map((name, place) =>
    h("li", { class: place < at || r.state === "promoted" ? "done" : place === at ? "now" : null, "aria-current": place === at && !r.over ? "step" : null }, label(name))));
}

function rollout(v) {
  const r = v.rollout;
  if (!r) return empty("No candidate was tried yet. The next one that passes its gate starts here.");
  return [
    h("p", { class: "small dim" }, `Version ${r.candidate}${r.champion ? ` to follow version ${r.champion}` : ", the first"}; opened `, stamp(new Date(r.opened_at)), `: ${r.cause}`),
    steps(v, r),
    h("p", {}, r.reason),
    r.checks.length > 0 && h("ul", { class: "rows" }, r.checks.map((one) => h("li", {}, h("span", { class: `verdict ${one.verdict}` }, one.verdict),
      h("span", { class: "grow" }, h("b", {}, f.words(one.name)), " ", h("span", { class: "dim" }, one.text))))),
    r.waits_for && h("p", { class: "waits" }, `Waits for ${r.waits_for}`, r.waits_until && ` (about ${f.moment(new Date(r.waits_until), now)})`),
  ];
}

function drift(v) {
  const d = v.drift;
  if (!d) return empty("No window was compared with the training data yet.");
  const top = Math.max(d.limit * 1.6, ...d.columns.map((one) => one.effect ?? 0));
  return [
    d.faults.map((text) => h("p", { class: "note bad small" }, text)),
    h("ul", { class: "bars" }, d.columns.map((one) => h("li", { class: one.verdict, ...tipped(() => [h("b", {}, `${f.words(one.column)}: ${one.verdict}`), h("div", {}, one.text), h("div", {}, `${f.share(one.weight)} of the model's reliance`)]),
      "aria-label": `${one.column}, ${one.effect === null ? "not scored" : one.effect.toFixed(3)}, ${one.verdict}. ${one.text}` },
      h("span", { class: "name" }, one.column), h("span", { class: "track" }, h("i", { class: "fill", style: { width: `${((one.effect ?? 0) / top) * 100}%` } }), h("i", { class: "limit", style: { left: `${(d.limit / top) * 100}%` } })),
      h("span", { class: "num" }, one.effect === null ? "–" : one.effect.toFixed(2))))),
    h("p", { class: "small dim" }, d.reason),
  ];
}

const VERDICT = { PASS: ["no drift", "good"], HOLD: ["too little to say", ""], FAIL: ["drifted", "accent"], ERROR: ["could not be scored", "warn"] };

function alarms(v) {
  if (!v.alarms.length) return empty("None was ever raised.");
  return h("ul", { class: "rows" }, v.alarms.map((one) => {
    const on = one.status === "firing", name = f.title(one.name.replace(/^Heliotrope/, "").replace(/([a-z])([A-Z])/g, "$1 $2"));
    return h("li", {}, h("span", { class: "grow" }, h("b", {}, name), " ", pill(on ? one.severity || "on" : "over", on ? (one.severity === "info" ? "warn" : "bad") : ""),
      h("div", { class: "small dim" }, one.summary, one.firings > 3 && ` (raised ${one.firings} times)`, one.runbook && [" ", h("a", { href: one.runbook, rel: "noreferrer" }, "What to do")])), stamp(new Date(one.changed)));
  }));
}

function triggers(v) {
  if (!v.triggers.length) return empty("Nothing has asked for a retraining yet.");
  const kind = { refused: "", waiting: "warn", running: "accent", requested: "accent", ended: "good" };
  return h("ul", { class: "rows" }, v.triggers.map((one) => h("li", {}, h("span", { class: "grow" }, h("b", {}, f.words(one.cause)), " ",
    pill(one.outcome ? f.words(one.outcome) : f.words(one.state), one.outcome && one.outcome !== "registered" ? "warn" : kind[one.state] ?? ""),
    h("div", { class: "small dim" }, folded("trigger", one.state === "refused" || one.state === "waiting" ? one.reason : one.text), one.version && ` Version ${one.version}.`)), stamp(new Date(one.at)))));
}

function events(v) {
  if (!v.events.length) return empty("Nothing was decided yet.");
  const shown = allEvents ? v.events : v.events.slice(0, FEW_EVENTS);
  return [
    h("ol", { class: "rows log" }, shown.map((one) => h("li", {}, h("span", { class: "kind" }, one.kind), h("span", { class: "grow" }, folded("event", one.reason), one.actor.startsWith("person:") && h("span", { class: "dim" }, ` (${one.actor.slice(7)})`)), stamp(new Date(one.at))))),
    v.events.length > FEW_EVENTS && h("button", { class: "more", type: "button", "aria-expanded": String(allEvents), onclick: () => { allEvents = !allEvents; render(); } }, allEvents ? "Show fewer" : `Show all ${v.events.length}`),
  ];
}

/** The newest of a view's times are told as "3 min ago", which changes without the view. */
const minute = () => Math.floor(now / (failures ? 1e15 : 5000));

function render() {
  const v = view;
  document.title = `${v.alarms.some((one) => one.status === "firing") ? "(!) " : ""}${v.contract.name} – Heliotrope`;
  show($("notes"), [v.matters, v.active], () => [
    !v.active && h("p", { class: "note" }, "This controller stands by: another one acts, or none does."),
    v.matters.map((text) => h("p", { class: "note" }, text))]);
  show($("head"), v.contract, () => head(v));
  show($("tiles"), [v, minute()], () => tiles(v));
  const width = $("chart").clientWidth;
  if (show($("legend"), [v.windows, v.contract], () => v.windows.length ? legend(v) : []) | show($("table"), [v.windows, v.contract], () => table(v)) | chartWidth !== width) chart(width);
  $("chart-title").textContent = `${f.metricName(v.contract.primary)} over time`;
  $("table-box").hidden = !v.windows.length;
  show($("settled"), v.settled, () => v.settled === null ? [] : v.settled ? pill("as wanted", "good") : pill("changing", "warn"));
  show($("traffic"), v.versions, () => traffic(v));
  show($("rollout-state"), v.rollout?.state, () => v.rollout ? pill(f.words(v.rollout.state), ROLLOUT[v.rollout.state] ?? "accent") : []);
  show($("rollout"), [v.rollout, minute()], () => rollout(v));
  show($("drift-state"), v.drift?.verdict, () => v.drift ? pill(...VERDICT[v.drift.verdict]) : []);
  show($("drift"), v.drift, () => drift(v));
  const on = v.alarms.filter((one) => one.status === "firing").length;
  show($("alarms-state"), on, () => on ? pill(`${on} on`, "bad") : pill("all quiet", "good"));
  show($("alarms"), [v.alarms, minute()], () => alarms(v));
  show($("triggers"), [v.triggers, minute()], () => triggers(v));
  show($("events"), [v.events, allEvents, minute()], () => events(v));
  $("main").setAttribute("aria-busy", "false");
}

let chartWidth = 0;
function chart(width) {
  chartWidth = width;
  if (view.windows.length) drawChart($("chart"), $("chart-said"), view);
  else $("chart").replaceChildren(empty("No prediction has reached the log yet. The first shows here within seconds."));
}

/* ---- how it is asked for ---- */

async function ask(path) {
  const answer = await fetch(path, { cache: "no-cache", signal: AbortSignal.timeout(PATIENCE) });
  if (!answer.ok) throw new Error(`${path} answered ${answer.status}`);
  return answer;
}

function linked(text, kind) {
  const link = $("link");
  if (link.textContent !== text) link.textContent = text;
  link.className = `pill ${kind}`;
  document.body.classList.toggle("away", kind === "bad");
}

async function names() {
  const { models } = await (await ask("api/v1/models")).json();
  const wanted = decodeURIComponent(location.hash.slice(1));
  model = models.includes(wanted) ? wanted : models[0];
  show($("models"), [models, model], () => models.length > 1 ? models.map((name) => h("a", { href: `#${encodeURIComponent(name)}`, "aria-current": name === model ? "page" : null }, name)) : []);
}

async function look() {
  clearTimeout(timer);
  try {
    if (model === null) await names();
    const asked = model;
    const answer = await ask(`api/v1/models/${encodeURIComponent(asked)}`);
    const fresh = answer.headers.get("etag"), raw = fresh === tag && view ? null : await answer.json();
    if (asked !== model) return;
    const told = answer.headers.get("x-heliotrope-now");
    now = told ? new Date(told) : new Date();
    failures = 0;
    if (raw) { view = read(raw); tag = fresh; }
    linked(view.active ? "live" : "standby", view.active ? "good" : "warn");
    $("clock").textContent = `${f.moment(now, new Date())} UTC`;
    $("clock").dateTime = now.toISOString();
    render();
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof DOMException || /answered/.test(error.message))) throw error;
    failures += 1;
    if (failures >= 2 || !view) {
      linked("controller away, trying", "bad");
      if (!view) show($("notes"), "away", () => h("p", { class: "note bad" }, "The controller does not answer. This page goes on trying and shows the model as soon as it does."));
    }
    if (/404/.test(error.message)) model = null;
  } finally {
    if (!document.hidden) timer = setTimeout(look, failures ? Math.min(EVERY * 2 ** (failures - 1), SLOWEST) : EVERY);
  }
}

/* ---- colours ---- */

const THEMES = ["system", "light", "dark"];
const GLYPHS = { system: "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1Zm0 1.5v11a5.5 5.5 0 0 1 0-11Z", light: "M8 4.5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7ZM7.3 0h1.4v2.6H7.3zM7.3 13.4h1.4V16H7.3zM0 7.3h2.6v1.4H0zM13.4 7.3H16v1.4h-2.6z", dark: "M6.5 1.2A7 7 0 1 0 14.8 9.5 6 6 0 0 1 6.5 1.2Z" };

function paint(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  const button = $("theme");
  button.setAttribute("aria-label", `Colours: ${theme === "system" ? "as the system" : theme}`);
  button.title = button.getAttribute("aria-label");
  button.replaceChildren(s("svg", { viewBox: "0 0 16 16", fill: "currentColor", "aria-hidden": "true" }, s("path", { d: GLYPHS[theme] })));
}

let theme = THEMES.includes(localStorage.getItem("theme")) ? localStorage.getItem("theme") : "system";
paint(theme);
$("theme").onclick = () => {
  theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  localStorage.setItem("theme", theme);
  paint(theme);
};

addEventListener("hashchange", () => { model = null; tag = null; view = null; look(); });
document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
new ResizeObserver(() => { const width = $("chart").clientWidth; if (view && width !== chartWidth) chart(width); }).observe($("chart"));
look();

// The primary metric over time: intervals, maturity, estimate; coverage below on the same axis.

import { h, hideTip, s, showTip } from "./dom.js";
import * as f from "./format.js";

const LEFT = 48, RIGHT = 12, TOP = 22, HIGH = 230, GAP = 30, LOW = 44, BOTTOM = 22;
const TOTAL = TOP + HIGH + GAP + LOW + BOTTOM;
let chosen = null;

function ticks(low, high, most) {
  const raw = (high - low) / most;
  const base = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((part) => part * base).find((part) => part >= raw) ?? raw;
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-9; at += step) found.push(at);
  return found;
}

function span(view) {
  const { floor, accepted } = view.contract;
  const values = view.windows.flatMap((w) => [w.value, w.estimate?.value ?? null]);
  const ends = view.windows.filter((w) => w.labelled >= 30).flatMap((w) => [w.low, w.high]);
  const known = [...values, ...ends, floor, accepted].filter((v) => v !== null);
  if (!known.length) return [0, 1];
  const low = Math.min(...known), high = Math.max(...known);
  const pad = (high - low) * 0.08 || Math.abs(high) * 0.05 || 0.5;
  return [low - pad, high + pad];
}

function scales(view, width) {
  const starts = view.windows.map((w) => w.from.getTime());
  const length = view.contract.window_seconds * 1000;
  const first = Math.min(...starts), last = Math.max(...starts) + length;
  const from = Math.min(first, last - 8 * length);
  const [low, high] = span(view);
  const x = (t) => LEFT + ((t - from) / (last - from)) * (width - LEFT - RIGHT);
  const y = (v) => TOP + HIGH - ((Math.min(Math.max(v, low), high) - low) / (high - low)) * HIGH;
  return { x, y, low, high, from, last, length, middle: (w) => x(w.from.getTime() + length / 2) };
}

/** Windows by version and role, in time; the champion's last, so that it lies on top. */
function series(view) {
  const found = new Map();
  for (const w of view.windows) {
    const key = `${w.role}\n${w.version}`;
    if (!found.has(key)) found.set(key, { role: w.role, version: w.version, windows: [] });
    found.get(key).windows.push(w);
  }
  return [...found.values()].sort((a, b) => (a.role === "champion") - (b.role === "champion"));
}

const lineOf = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

/** Runs of windows that follow each other, each with whether it is mature. */
function runs(windows, length) {
  const found = [];
  for (const w of windows) {
    if (w.value === null) continue;
    const run = found.at(-1), last = run?.at(-1);
    if (last && w.from - last.from <= length * 1.5) run.push(w);
    else found.push([w]);
  }
  return found;
}

function drawSeries(one, at, dense) {
  const parts = [];
  for (const run of runs(one.windows, at.length)) {
    const cut = run.findIndex((w) => !w.mature);
    const firm = cut < 0 ? run : run.slice(0, cut), soft = cut < 0 ? [] : run.slice(Math.max(cut - 1, 0));
    for (const [part, kind] of [[firm, ""], [soft, " soft"]]) {
      const banded = part.filter((w) => w.low !== null);
      if (banded.length > 1) {
        const up = banded.map((w) => [at.middle(w), at.y(w.high)]), down = banded.map((w) => [at.middle(w), at.y(w.low)]);
        parts.push(s("path", { class: `band${kind}`, d: `${lineOf([...up, ...down.reverse()])}Z` }));
      }
      if (part.length > 1) parts.push(s("path", { class: `path${kind}`, d: lineOf(part.map((w) => [at.middle(w), at.y(w.value)])) }));
    }
    for (const w of run) {
      if (w.low !== null && run.length === 1) parts.push(s("line", { class: "path", x1: at.middle(w), x2: at.middle(w), y1: at.y(w.low), y2: at.y(w.high) }));
      if (!dense || run.length === 1 || !w.mature) parts.push(s("circle", { class: w.mature ? "dot" : "dot soft", cx: at.middle(w), cy: at.y(w.value), r: 3.2 }));
    }
  }
  return s("g", { class: one.role === "champion" ? "s-champion" : "s-other" }, parts);
}

function frame(view, at, width) {
  const { primary, floor, accepted } = view.contract, parts = [];
  const young = view.windows.filter((w) => !w.mature && w.maturity !== "unlabelled").map((w) => w.from.getTime());
  if (young.length) {
    const left = at.x(Math.min(...young));
    parts.push(s("rect", { class: "young", x: left, y: TOP - 16, width: width - RIGHT - left, height: HIGH + 16 + GAP + LOW }));
    if (width - RIGHT - left > 92) parts.push(s("text", { x: width - RIGHT - 6, y: TOP - 4, "text-anchor": "end" }, "labels still come"));
  }
  const steps = ticks(at.low, at.high, 5);
  const apart = steps.length > 1 ? steps[1] - steps[0] : 1;
  const isShare = f.metric(primary, 0.5).includes("%");
  const digits = isShare ? (apart < 0.01 ? 1 : 0) : Math.max(0, Math.ceil(-Math.log10(apart) - 1e-9) + (String(apart).includes("25") ? 1 : 0));
  for (const value of steps) {
    parts.push(s("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: at.y(value), y2: at.y(value) }));
    parts.push(s("text", { x: LEFT - 8, y: at.y(value) + 4, "text-anchor": "end" }, f.metric(primary, value, { digits })));
  }
  const mark = (value, kind, text) => value === null ? [] : [
    s("line", { class: kind, x1: LEFT, x2: width - RIGHT, y1: at.y(value), y2: at.y(value) }),
    s("text", { class: `${kind}-text`, x: LEFT + 4, y: at.y(value) - 5 }, `${text} ${f.metric(primary, value)}`),
  ];
  parts.push(mark(accepted, "accepted", "accepted at"), mark(floor, "floor", view.contract.greater_is_better ? "floor" : "ceiling"));
  return parts;
}

function dates(view, at, width) {
  const days = at.length >= 86400e3, most = Math.max(2, Math.floor((width - LEFT) / 72));
  const step = Math.max(1, Math.ceil((at.last - at.from) / at.length / most)) * at.length;
  const parts = [], y = TOTAL - 5;
  for (let t = at.last - at.length; t >= at.from; t -= step) {
    const x = at.x(t + at.length / 2);
    if (x < LEFT + 14 || x > width - 18) continue;
    const when = new Date(t);
    parts.push(s("text", { x, y, "text-anchor": "middle" }, days ? f.day(when) : `${f.day(when)} ${f.time(when)}`));
  }
  return parts;
}

function coverage(view, at) {
  const top = TOP + HIGH + GAP, totals = new Map();
  for (const w of view.windows) {
    if (w.role === "shadow") continue;
    const sum = totals.get(w.from.getTime()) ?? { predicted: 0, labelled: 0, mature: true };
    totals.set(w.from.getTime(), { predicted: sum.predicted + w.predicted, labelled: sum.labelled + w.labelled, mature: sum.mature && w.mature });
  }
  const wide = Math.max(1, (at.x(at.length) - at.x(0)) * 0.72);
  return [
    s("text", { x: LEFT, y: top - 7 }, "Coverage: labelled of predicted"),
    s("text", { x: LEFT - 8, y: top + 8, "text-anchor": "end" }, "100\u202f%"),
    [...totals].map(([t, sum]) => {
      const x = at.x(t + at.length / 2) - wide / 2, part = LOW * (sum.labelled / sum.predicted);
      return [
        s("rect", { class: "bar-track", x, y: top, width: wide, height: LOW, rx: Math.min(2, wide / 4) }),
        s("rect", { class: sum.mature ? "bar" : "bar soft", x, y: top + LOW - part, width: wide, height: part, rx: Math.min(2, wide / 4) }),
      ];
    }),
  ];
}

function promises(view, at) {
  return series(view).filter((one) => one.role === "champion").map((one) => {
    const known = one.windows.filter((w) => w.estimate && w.estimate.value !== null && w.maturity !== "open");
    return known.length > 1 && s("path", { class: "promise", d: lineOf(known.map((w) => [at.middle(w), at.y(w.estimate.value)])) });
  });
}

function turns(view, at) {
  const champions = series(view).filter((one) => one.role === "champion").sort((a, b) => a.windows[0].from - b.windows[0].from);
  return champions.map((one, place) => {
    const x = at.x(one.windows[0].from.getTime());
    return [
      place > 0 && s("line", { class: "turn", x1: x, x2: x, y1: TOP - 12, y2: TOP + HIGH }),
      s("text", { class: "version", x: x + 4, y: TOP - 4 }, `v${one.version}`),
    ];
  });
}

/** What a window says, for the tooltip and for screen readers. */
export function facts(view, windows) {
  const { primary, window_seconds: length } = view.contract;
  return windows.map((w) => ({
    title: `${f.windowName(w.from, length)}, version ${w.version} ${w.role}`,
    rows: [
      [f.metricName(primary), f.metric(primary, w.value)],
      ["95% interval", f.interval(primary, w.low, w.high) || "–"],
      ["Labels", `${f.count(w.labelled)} of ${f.count(w.predicted)} (${f.share(w.coverage)})`],
      w.estimate && ["Estimate", f.metric(primary, w.estimate.value) + (w.estimate.unreliable ? ", contradicted by labels" : "")],
      ["State", f.MATURITY[w.maturity] ?? w.maturity],
    ].filter(Boolean),
  }));
}

function tipOf(view, windows) {
  return facts(view, windows).map((one) => h("div", {}, h("b", {}, one.title), h("dl", {}, one.rows.map(([k, v]) => [h("dt", {}, k), h("dd", {}, v)]))));
}

/** Draw the chart into `place`; `said` is told what the keyboard chooses. */
export function drawChart(place, said, view) {
  const width = Math.max(280, place.clientWidth);
  const at = scales(view, width), dense = view.windows.length * 9 > width;
  const times = [...new Set(view.windows.map((w) => w.from.getTime()))].sort((a, b) => a - b);
  const { primary } = view.contract;
  const name = f.metricName(primary), lastMature = view.windows.filter((w) => w.mature && w.role === "champion").at(-1);
  const label = `${name} of ${times.length} windows. ${lastMature ? `Last mature: ${f.metric(primary, lastMature.value)}, ${f.interval(primary, lastMature.low, lastMature.high)}. ` : ""}Arrow keys move through the windows; the table below holds all numbers.`;
  const cursor = s("line", { class: "cursor", y1: TOP - 12, y2: TOP + HIGH + GAP + LOW, visibility: "hidden" });
  const picture = s("svg", { viewBox: `0 0 ${width} ${TOTAL}`, height: TOTAL, "aria-hidden": "true" },
    frame(view, at, width), coverage(view, at), promises(view, at), turns(view, at),
    series(view).map((one) => drawSeries(one, at, dense)), dates(view, at, width), cursor);
  const choose = (t, x, y) => {
    chosen = t;
    const here = view.windows.filter((w) => w.from.getTime() === t);
    const middle = at.x(t + at.length / 2);
    cursor.setAttribute("x1", middle);
    cursor.setAttribute("x2", middle);
    cursor.setAttribute("visibility", "visible");
    const box = place.getBoundingClientRect();
    showTip(tipOf(view, here), x ?? box.left + (middle / width) * box.width, y ?? box.top + TOP + 60);
    return here;
  };
  const leave = () => { cursor.setAttribute("visibility", "hidden"); hideTip(); };
  const near = (event) => {
    const box = place.getBoundingClientRect(), x = ((event.clientX - box.left) / box.width) * width;
    return times.reduce((best, t) => Math.abs(at.x(t + at.length / 2) - x) < Math.abs(at.x(best + at.length / 2) - x) ? t : best, times[0]);
  };
  place.tabIndex = 0;
  place.setAttribute("role", "group");
  place.setAttribute("aria-roledescription", "chart");
  place.setAttribute("aria-label", label);
  place.onpointermove = (event) => choose(near(event), event.clientX, event.clientY);
  place.onpointerleave = leave;
  place.onblur = leave;
  place.onkeydown = (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -1e9, End: 1e9 }[event.key];
    if (event.key === "Escape") leave();
    if (step === undefined) return;
    event.preventDefault();
    const now = times.includes(chosen) ? times.indexOf(chosen) : times.length;
    const t = times[Math.max(0, Math.min(times.length - 1, now + step))];
    said.textContent = facts(view, choose(t)).map((one) => `${one.title}: ${one.rows.map((row) => row.join(" ")).join(", ")}.`).join(" ");
  };
  place.replaceChildren(picture);
}

const sample = (kind, ...parts) => s("svg", { viewBox: "0 0 22 10", class: kind, "aria-hidden": "true" }, parts);

/** What the chart's lines mean, of those that are in it. */
export function legend(view) {
  const others = view.windows.some((w) => w.role !== "champion"), young = view.windows.some((w) => !w.mature && w.value !== null);
  const promised = view.windows.some((w) => w.estimate);
  return [
    h("span", {}, sample("s-champion", s("rect", { class: "band", width: 22, height: 10 }), s("path", { class: "path", d: "M0 5H22" })), "champion, 95% interval"),
    others && h("span", {}, sample("s-other", s("path", { class: "path", d: "M0 5H22" })), "candidate"),
    young && h("span", {}, sample("s-champion", s("circle", { class: "dot soft", cx: 11, cy: 5, r: 3.4 })), "not mature"),
    promised && h("span", {}, sample("", s("path", { class: "promise", d: "M0 5H22" })), "estimate without labels"),
  ];
}

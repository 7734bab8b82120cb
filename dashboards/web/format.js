// Numbers and times as people read them.

const SHARES = new Set(["accuracy", "balanced_accuracy", "precision", "recall", "recall_at_precision"]);
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const NONE = "–";
const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const METRICS = {
  accuracy: "Accuracy", balanced_accuracy: "Balanced accuracy", precision: "Precision", recall: "Recall",
  recall_at_precision: "Recall at precision", f1: "F1", roc_auc: "ROC AUC", average_precision: "Average precision",
  log_loss: "Log loss", brier: "Brier score", calibration_error: "Calibration error", mae: "Mean absolute error",
  rmse: "Root mean squared error", r2: "R²", mape: "Mean absolute % error",
};

export const MATURITY = {
  future: "ahead of the clock", open: "still open", maturing: "labels still come",
  mature_by_coverage: "mature: enough labels", mature_by_delay: "mature: label delay passed",
  unlabelled: "no label came",
};

export function metricName(name) {
  return METRICS[name] ?? name.replaceAll("_", " ");
}

/** A value of a metric: shares in per cent, others in three figures. */
export function metric(name, value, { unit = true, digits } = {}) {
  if (value === null || value === undefined) return NONE;
  if (SHARES.has(name)) return (value * 100).toFixed(digits ?? 1) + (unit ? "\u202f%" : "");
  const size = Math.abs(value);
  if (size >= 1000) return whole.format(Math.round(value));
  return value.toFixed(digits ?? (size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3));
}

export function interval(name, low, high) {
  if (low === null || high === null || low === undefined || high === undefined) return "";
  return `${metric(name, low, { unit: false })} to ${metric(name, high)}`;
}

export const count = (value) => whole.format(value);
export const compact = (value) => (value < 1e6 ? whole.format(value) : short.format(value));
export const share = (value, digits = 0) => (value === null ? NONE : `${(value * 100).toFixed(digits)}\u202f%`);

/** A length of time in its two largest units. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return NONE;
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  if (seconds < 1) return `${Math.round(seconds * 1000)}\u202fms`;
  const first = units.findIndex(([, size]) => seconds >= size);
  const [unit, size] = units[first];
  const value = Math.floor(seconds / size);
  const rest = units[first + 1] ? Math.floor((seconds - value * size) / units[first + 1][1]) : 0;
  const more = rest && value < 10 ? ` ${rest}\u202f${units[first + 1][0]}` : "";
  return `${value}\u202f${unit}${more}`;
}

const two = (number) => String(number).padStart(2, "0");

export function day(at) {
  return `${at.getUTCDate()} ${MONTHS[at.getUTCMonth()]}`;
}

export function time(at) {
  return `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}`;
}

/** A time, with the year only where it is not this one. */
export function moment(at, now) {
  const year = now && at.getUTCFullYear() === now.getUTCFullYear() ? "" : ` ${at.getUTCFullYear()}`;
  return `${day(at)}${year} ${time(at)}`;
}

/** The start of a window: its day, and the time where windows are shorter than a day. */
export function windowName(from, seconds) {
  return seconds >= 86400 && seconds % 86400 === 0 ? `${day(from)} ${from.getUTCFullYear()}` : `${day(from)} ${time(from)}`;
}

export function ago(at, now) {
  const seconds = (now - at) / 1000;
  if (seconds < -1) return `in ${duration(-seconds)}`;
  if (seconds < 5) return "just now";
  return `${duration(seconds).replace(/ .*/, "")} ago`;
}

export const words = (name) => name.replaceAll("_", " ");
export const title = (name) => words(name).replace(/\b[a-z]/g, (letter) => letter.toUpperCase());

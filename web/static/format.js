// Figures as people read them. An unknown figure is "unknown", never 0.

const count = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const moment = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

function number(value) {
  return Number.isInteger(value) ? count.format(value) : short.format(value);
}

export function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let value = Math.abs(bytes);
  let step = 0;
  while (value >= 1024 && step < units.length - 1) [value, step] = [value / 1024, step + 1];
  const text = step === 0 ? number(value) : value.toFixed(value >= 100 ? 0 : 1);
  return `${bytes < 0 ? "−" : ""}${text} ${units[step]}`;
}

export function money(amount) {
  const size = Math.abs(amount);
  const sign = amount < 0 ? "−$" : "$";
  if (size >= 1e6) return sign + compact.format(size);
  if (size >= 1 || size === 0) return sign + size.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
  return sign + size.toLocaleString("en", { maximumSignificantDigits: 3, maximumFractionDigits: 12 });
}

export function duration(seconds) {
  if (seconds < 0.001 && seconds > 0) return `${number(seconds * 1e6)} µs`;
  if (seconds < 1) return `${number(Math.round(seconds * 1e5) / 100)} ms`;
  if (seconds < 60) return `${short.format(Math.round(seconds * 10) / 10)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  if (seconds < 86400 * 2) return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
  return `${short.format(Math.round(seconds / 8640) / 10)} days`;
}

/** Return a UTC moment (seconds, or ISO text) in the reader's own time. */
export function time(value) {
  const date = typeof value === "number" ? new Date(value * 1000) : new Date(value);
  return Number.isNaN(date.getTime()) ? String(value) : moment.format(date);
}

export const clockTime = (seconds) => clock.format(new Date(seconds * 1000));

/** Return a figure with its unit; `scale` multiplies money only. */
export function figure(value, unit = "", scale = 1) {
  if (value === null || value === undefined) return "unknown";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (unit === "time") return time(value);
  if (typeof value !== "number") return String(value);
  if (!Number.isFinite(value)) return "unknown";
  if (unit === "bytes") return size(value);
  if (unit === "usd" || unit === "usd/month") return money(value * scale) + (unit === "usd" ? "" : " a month");
  if (unit === "seconds") return duration(value);
  if (unit === "ms") return duration(value / 1000);
  if (unit === "percent") return `${short.format(Math.round(value * 100) / 100)} %`;
  if (unit === "bytes/s") return `${size(value)}/s`;
  return unit ? `${number(value)} ${unit}` : number(value);
}

export const whole = (value) => count.format(value);

/** Return words from a field's name: "saving_usd_month" -> "Saving usd month". */
export function words(name) {
  const text = String(name).replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Guess a field's unit from its name, whose last word is its unit. */
export function unitOf(name) {
  if (/(^|_)usd($|_)/.test(name)) return "usd";
  if (/_bytes$|^bytes$/.test(name)) return "bytes";
  if (/_ms$/.test(name)) return "ms";
  if (/_seconds$/.test(name)) return "seconds";
  if (/_percent$/.test(name)) return "percent";
  if (/^(at|made|created|modified|until|since|time|started|ended|opened)$|_at$/.test(name)) return "time";
  return "";
}

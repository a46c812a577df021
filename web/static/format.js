// Figures as people read them. An unknown figure is "unknown", never 0.

const count = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const moment = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const days = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeZone: "UTC" });
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
  if (size >= 0.01) return sign + size.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 4 });
  if (size < 1e-7) return `${amount < 0 ? "−" : ""}<$0.0000001`;
  return sign + size.toLocaleString("en", { maximumSignificantDigits: 3, maximumFractionDigits: 9 });
}

const both = (big, unit, small, rest) => (small ? `${big} ${unit} ${small} ${rest}` : `${big} ${unit}`);

export function duration(seconds) {
  if (seconds === 0) return "0 s";
  if (seconds < 0.001 && seconds > 0) return `${number(seconds * 1e6)} µs`;
  if (seconds < 1) return `${number(Math.round(seconds * 1e5) / 100)} ms`;
  if (seconds < 60) return `${short.format(Math.round(seconds * 10) / 10)} s`;
  if (seconds < 3600) return both(Math.floor(seconds / 60), "min", Math.round(seconds % 60), "s");
  if (seconds < 86400 * 2) return both(Math.floor(seconds / 3600), "h", Math.round((seconds % 3600) / 60), "min");
  return `${short.format(Math.round(seconds / 8640) / 10)} days`;
}

/** Return a UTC moment (seconds, or ISO text) in the reader's own time. */
export function time(value) {
  const date = typeof value === "number" ? new Date(value * 1000) : new Date(value);
  return Number.isNaN(date.getTime()) ? String(value) : moment.format(date);
}

export const clockTime = (seconds) => clock.format(new Date(seconds * 1000));

const percent = (value) => (value !== 0 && Math.abs(value) < 0.01 ? "under 0.01 %" : `${short.format(Math.round(value * 100) / 100)} %`);
const day = (number) => days.format(new Date(number * 86400000));

const FORMATS = {
  bytes: size,
  seconds: duration,
  ms: (value) => duration(value / 1000),
  percent,
  "bytes/s": (value) => `${size(value)}/s`,
  bytes_per_second: (value) => `${size(value)}/s`,
  probability: number,
  day,
};

/** Return a figure with its unit; `scale` multiplies money only; a unit that `label` already says is left out. */
export function figure(value, unit = "", scale = 1, label = "") {
  if (value === null || value === undefined) return "unknown";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (unit === "time") return time(value);
  if (typeof value !== "number") return String(value);
  if (!Number.isFinite(value)) return "unknown";
  if (unit === "usd" || unit === "usd/month") return money(value * scale) + (unit === "usd" ? "" : " a month");
  if (FORMATS[unit]) return FORMATS[unit](value);
  return counted(value, unit, label);
}

/** Return a number of something: "4 jobs", "1 job", and "4" under a label that names the jobs. */
function counted(value, unit, label) {
  const noun = unit.replace(/_?per_second$|^per second$/, " a second").trim();
  if (!noun || label.toLowerCase().includes(noun)) return number(value);
  return `${number(value)} ${value === 1 && noun.length > 2 ? noun.replace(/s$/, "") : noun}`;
}

export const whole = (value) => count.format(value);

const ACRONYMS = { id: "ID", sha256: "SHA-256", p50: "p50", p99: "p99", gb: "GB", usd: "" };

/** Return words from a field's name, its unit left to the figure: "saving_usd_month" -> "Saving a month". */
export function words(name) {
  const plain = String(name).replace(/_usd_month$/, "_a_month").replace(/(.)_(bytes_per_second|bytes|ms|seconds|percent|usd)$/, "$1");
  const text = plain.split("_").map((word) => ACRONYMS[word] ?? word).filter(Boolean).join(" ");
  return sentence(text);
}

/** Return text that begins with a capital letter. */
export const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** Return a component's sentence with its moments in the reader's time and its bytes in units people know. */
export function prose(text) {
  return String(text)
    .replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z/g, (found) => time(found))
    .replace(/\b(\d{4,}) bytes\b/g, (_, bytes) => size(Number(bytes)));
}

const MOMENT = /^(at|day_at|made|created|modified|updated|until|since|time|started|ended|opened|starts|origin|acknowledged|resolved)$|_(at|until|seen|made)$|^last_(read|write|access)$|^next_update$/;

/** Guess a field's unit from its name, whose last word is its unit. */
export function unitOf(name) {
  if (/(^|_)usd($|_)|_per_(gb|1k)(_|$)/.test(name)) return "usd";
  if (/bytes_per_second$/.test(name)) return "bytes/s";
  if (/_bytes$|^bytes$/.test(name)) return "bytes";
  if (/_ms$/.test(name)) return "ms";
  if (/_seconds$/.test(name)) return "seconds";
  if (/_percent$/.test(name)) return "percent";
  if (name === "day") return "day";
  return MOMENT.test(name) ? "time" : "";
}

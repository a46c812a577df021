// One object: why it lies where it does, what that costs, what happened to it and what comes next.

import { explain } from "./api.js";
import { actButton, actButtons } from "./acts.js";
import { bars, chart } from "./charts.js";
import { byId, h } from "./dom.js";
import { figure, prose, sentence, time, unitOf, words } from "./format.js";
import { SECTIONS, isSample, mayAct } from "./state.js";
import { plainTable } from "./table.js";

const WEIGHTS = { frequency: 0.4, latency: 0.3, cost: 0.2, trend: 0.1 };
const DEEPEST = 4;
const COLUMNS = {
  history: ["made", "verdict", "state", "source", "target", "saving_usd_month", "move_cost_usd", "reason"],
  jobs: ["state", "risk", "source", "target", "bytes", "cost_usd", "started", "ended", "grace_until", "reason"],
  journal: ["at", "was", "became", "act", "details"],
  replicas: ["place", "state", "suite", "cipher", "bytes", "until"],
};
const SHOWN_ABOVE = { optimization: new Set(["decision", "recomputed_equal"]) };
const PLAIN_HIDDEN = new Set(["id", "key", "version_id"]); // said elsewhere on the page

export async function openObject(key) {
  const dialog = byId("object");
  const body = h("div", { class: "panel-body", tabindex: "0" }, h("p", { class: "empty" }, "Asking every component …"));
  const acts = h("div", { class: "object-acts" });
  dialog.replaceChildren(
    h("header", { class: "panel-head" },
      h("div", {}, h("h2", { id: "object-title", class: "key" }, key), h("p", {}, isSample() ? "Object of the sample world" : "Object")),
      acts, h("button", { type: "button", class: "button", "aria-label": "Close object", onclick: () => dialog.close() }, "Close")), body);
  if (!dialog.open) dialog.showModal();
  const again = () => openObject(key);
  try {
    const found = await explain(key);
    const pinned = found.facts.consistency?.consistency?.pinned ?? found.facts.consistency?.pinned;
    const names = pinned === undefined ? [] : [pinned ? "unpin" : "pin"];
    acts.replaceChildren(...names.filter(mayAct).map((name) => actButton(name, { key }, again)));
    body.replaceChildren(...parts(found, again));
  } catch (error) {
    body.replaceChildren(h("p", { class: "empty" }, `Not available: ${error.message}`));
  }
}

function parts({ stages, facts }, again) {
  const decision = facts.optimization?.decision;
  const sections = Object.entries(facts).map(([section, values]) => {
    const rest = Object.fromEntries(Object.entries(values).filter(([name]) => !SHOWN_ABOVE[section]?.has(name)));
    return Object.keys(rest).length ? h("section", { class: "fact-section" }, h("h3", {}, SECTIONS[section]?.title ?? words(section)), render(section, rest, section, again, 0)) : null;
  });
  return [...why(decision, facts), h("h3", {}, "The nine stages"), timeline(stages), ...sections, receipt(decision, facts)].filter(Boolean);
}

/** Why first: the decision in words, its factors, its money. */
function why(decision, facts) {
  if (!decision) return accounts(facts.optimization?.ledger);
  const held = facts.consistency?.consistency ?? facts.consistency ?? {};
  const sizes = held.priced_bytes !== undefined && held.priced_bytes !== held.stored_bytes
    ? `${figure(held.stored_bytes, "bytes")} are stored; money is computed on ${figure(held.priced_bytes, "bytes")} (sample world, 1:64)` : figure(held.stored_bytes ?? decision.money_bytes, "bytes");
  const moving = decision.verdict === "move";
  const list = { Verdict: words(decision.verdict), From: decision.source || "–", [moving ? "To" : "Best other place"]: decision.target || "–", Decided: time(decision.made),
    "Saves a month": figure(decision.saving_usd_month, "usd"), "Costs once": figure(decision.move_cost_usd, "usd"), Score: decision.score.toFixed(3), "Chance that it pays back": figure(decision.confidence * 100, "percent"), Size: sizes };
  return [h("section", { class: "why" }, h("h3", {}, "Why"), h("p", { class: "reason" }, sentence(prose(decision.reason))),
    facts.optimization.recomputed_equal === true ? h("p", { class: "quiet" }, "Computed again from the receipt just now: the same result.") : null,
    facts.optimization.recomputed_equal === false ? h("p", { class: "problem" }, "Computed again from the receipt just now: the result differs.") : null,
    facts.optimization.recomputed_equal === null ? h("p", { class: "quiet" }, "It cannot be computed again here: another release decided, or its prices are no longer kept.") : null,
    ...accounts(facts.optimization.ledger),
    factList(list), bars(decision.factors, decision.receipt?.weights ?? WEIGHTS),
    decision.trend_known === false ? h("p", { class: "quiet" }, "The trend is not known yet and counts as 0.5.") : null),
  ...money(decision.receipt)];
}

/** What the ledger of each store holds of the object, and what would turn its answer. */
const accounts = (ledger = {}) => Object.entries(ledger).map(([store, { held, counterfactual, recomputed_equal: same }]) =>
  h("p", { class: same ? "quiet" : "problem", "data-ledger": store }, `${sentence(`the ledger of ${store} holds it in ${held}: it ${counterfactual}`)} ${same ? "Its days are lived again just now: the same." : "Its days, lived again just now, come out differently."}`));

const factList = (list) => h("dl", { class: "facts" }, Object.entries(list).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));

/** The price lines of today, of the target and of the move, each with its mark, and a range where the price is unsure. */
function money(receipt) {
  const lines = receipt?.lines;
  if (!lines?.now) return [];
  const groups = [["Today, a month", lines.now], ["There, a month", lines.after], ["The move, once", lines.move]].filter(([, group]) => group);
  const rows = groups.flatMap(([name, group]) => [...group.lines.filter((line) => line.usd !== 0 || line.high > 0).map((line) => priceRow(name, line)),
    h("tr", { class: "sum" }, h("th", { scope: "row" }, name), h("td", {}, "Billed"), h("td", { class: "number-cell" }, figure(group.total.usd, "usd")), h("td", { class: "short" }, range(group.total)), h("td", {}, mark(group.total.mark)),
      h("td", { class: "long" }, group.total.sunk_usd > 0 ? `beside ${figure(group.total.sunk_usd, "usd")} of own capacity, already paid` : "–"))]);
  const head = ["When", "Line", "Money", "Between", "Price is", "How it is computed"];
  const notes = [...new Set(lines.notes ?? [])];
  return [h("section", { class: "fact-section" }, h("h3", {}, "What it costs"),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "What it costs" }, h("table", {}, h("caption", { class: "hidden" }, "What it costs"),
      h("thead", {}, h("tr", {}, head.map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, rows))),
    notes.map((note) => h("p", { class: "quiet" }, sentence(note))), receipt.counterfactual ? h("p", { class: "quiet" }, sentence(prose(receipt.counterfactual))) : null), alternatives(receipt)];
}

function priceRow(name, line) {
  const given = Object.entries(line.inputs ?? {}).map(([key, value]) => `${words(key)} ${figure(value, unitOf(key))}`).join(", ");
  return h("tr", {}, h("td", { class: "short" }, name), h("td", {}, words(line.name) + (line.sunk ? " (own)" : "")), h("td", { class: "number-cell" }, figure(line.usd, "usd")),
    h("td", { class: "short" }, range(line)), h("td", {}, mark(line.mark)), h("td", { class: "long" }, line.formula, h("small", {}, given)));
}

const MARKS = { read: "read from the price list", estimate: "an estimate", memory: "from memory, not read", given: "given by you" };
const mark = (word) => (word ? h("span", { class: "pill", "data-mark": word, title: MARKS[word] ?? word }, word) : "–");
const range = ({ low, high }) => (typeof low === "number" && low < high ? `${figure(low, "usd")} – ${figure(high, "usd")}` : "–");

function alternatives({ alternatives: found = [], refused = {}, places = [] }) {
  const tried = found.map((one) => ({ ...one, instead_of: places[one.copy] }));
  const columns = ["place", "instead_of", "saving_usd_month", "move_cost_usd", "net_usd", "score", "confidence", "latency_ms", "latency_ok"];
  const out = Object.entries(refused);
  if (!tried.length && !out.length) return null;
  return h("section", { class: "fact-section" }, h("h3", {}, "What else was weighed"), tried.length ? plainTable("What else was weighed", tried, columns) : null,
    out.length ? h("p", { class: "quiet" }, `Not allowed: ${out.map(([place, reason]) => `${place} (${reason})`).join(", ")}.`) : null);
}

/** Everything that was recorded, for computing the decision again. */
function receipt(decision, facts) {
  if (!decision) return null;
  return h("details", { class: "fact-section" }, h("summary", {}, "The whole receipt, as recorded"), render("decision", facts.optimization.decision, "optimization", () => {}, 1, true));
}

function timeline(stages) {
  return h("ol", { class: "timeline" }, stages.map(({ stage, at, did, earlier = [] }) =>
    h("li", { "data-done": String(at !== null) }, h("strong", {}, words(stage)), h("span", { class: "when" }, at ? time(at) : "–"), h("p", {}, sentence(prose(did))),
      earlier.length ? h("details", {}, h("summary", {}, `${earlier.length} earlier`), h("ul", {}, earlier.map((one) => h("li", {}, `${time(one.at)}: ${prose(one.did)}`)))) : null)));
}

const isScalar = (value) => value === null || typeof value !== "object";
const isShares = (value) => Object.values(value).length > 0 && Object.values(value).every((item) => typeof item === "number" && item >= 0 && item <= 1);
const isPoints = (value) => value.length > 1 && value.every((item) => Array.isArray(item) && item.length === 2 && typeof item[0] === "number");

function render(name, value, section, again, depth, whole = false) {
  if (isScalar(value)) return h("p", {}, figure(value, unitOf(name)));
  if (depth > DEEPEST) return h("pre", {}, JSON.stringify(value));
  if (Array.isArray(value)) return list(name, value, section, again);
  if ((name === "factors" || name === "weights") && isShares(value)) return bars(value, name === "factors" ? WEIGHTS : {});
  const entries = Object.entries(value);
  if (entries.length === 1 && !isScalar(entries[0][1]) && !Array.isArray(entries[0][1])) return render(...entries[0], section, again, depth, whole);
  const plain = entries.filter(([key, item]) => isScalar(item) && item !== null && item !== "" && (whole || !PLAIN_HIDDEN.has(key)));
  const deep = entries.filter(([, item]) => !isScalar(item) && (!Array.isArray(item) || item.length));
  return h("div", {},
    plain.length ? h("dl", { class: "facts" }, plain.map(([key, item]) => h("div", {}, h("dt", {}, words(key)), h("dd", {}, figure(item, unitOf(key)))))) : null,
    deep.map(([key, item]) => h("details", { open: depth < 1 }, h("summary", {}, words(key)), render(key, item, section, again, depth + 1, whole))));
}

function list(name, values, section, again) {
  if (!values.length) return h("p", { class: "empty" }, "None.");
  if (isPoints(values) && values.every(([at]) => at > 1e9)) return chart({ label: words(name), unit: unitOf(name), points: values });
  if (values.every((item) => !isScalar(item) && !Array.isArray(item))) {
    const acting = values.flatMap((row) => actButtons(section, row, again));
    const known = (COLUMNS[name] ?? []).filter((column) => values.some((row) => row[column] !== undefined && row[column] !== null && row[column] !== ""));
    return h("div", {}, plainTable(`${SECTIONS[section]?.title ?? section}: ${words(name)}`, values, known.length ? known : null), acting.length ? h("div", { class: "object-acts" }, acting) : null);
  }
  return h("p", {}, values.map((item) => (isScalar(item) ? figure(item, unitOf(name)) : JSON.stringify(item))).join(", "));
}

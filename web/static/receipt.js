// One object's receipt: its moves, its lines under three courses, the prices, and at how many reads the answer turns.

import { replayReceipt } from "./api.js";
import { byId, h, s, say } from "./dom.js";
import { figure, money, size, whole, words } from "./format.js";
import { className } from "./policies.js";

const SIDES = [["fabric", "This fabric"], ["do_nothing", "Doing nothing"], ["optimum", "Optimum"]];
const LINES = ["storage", "requests", "retrieval", "transition", "minimum_duration", "monitoring"];
const DAY_MS = 86400000;
const dates = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeZone: "UTC" });

export async function openReceipt(id, number) {
  const dialog = byId("receipt");
  const body = h("div", { class: "panel-body", tabindex: "0" }, h("p", { class: "empty" }, "Computing …"));
  const title = h("h2", { id: "receipt-title", class: "key-line" }, "Receipt");
  const under = h("p", {}, "");
  dialog.replaceChildren(h("header", { class: "panel-head" }, h("div", {}, title, under),
    h("button", { type: "button", class: "button", "aria-label": "Close receipt", onclick: () => dialog.close() }, "Close")), body);
  dialog.onclose = () => history.replaceState(null, "", location.pathname);
  if (!dialog.open) dialog.showModal();
  history.replaceState(null, "", `${location.pathname}#object/${number}`);
  try {
    const found = await replayReceipt(id, number);
    say(title, found.object.key);
    say(under, `${size(found.object.size_bytes)}, ${whole(found.reads.reads)} reads on ${whole(found.reads.days_with_reads)} days`);
    body.replaceChildren(...parts(found).filter(Boolean));
  } catch (error) {
    body.replaceChildren(h("p", { class: "empty" }, `Not available: ${error.message}`));
  }
}

function parts(found) {
  const when = dayOf(found);
  return [answer(found), days(found), section("What each course costs", sides(found.sides)), section("The fabric's moves", moves(found.sides.fabric, when, "The fabric's moves")),
    section("The optimum's moves", moves(found.sides.optimum, when, "The optimum's moves")), gate(found, when), turns(found), section("Prices used", priceTable(found.prices)), missing(found.missing), proof(found)];
}

const section = (title, ...content) => h("section", { class: "fact-section" }, h("h3", {}, title), ...content);

/** Days count from the log's first midnight; dates are only said where the clock is the log's own. */
function dayOf({ origin, asked }) {
  if (!origin || asked.stretch !== 1) return (day) => `day ${whole(day)}`;
  return (day) => `${dates.format(new Date(origin * 1000 + day * DAY_MS))} (day ${whole(day)})`;
}

function answer({ object, same_as_replayed: same }) {
  const gain = object.saving;
  const text = gain > 0 ? `The fabric saves ${money(gain)} on this object.` : gain < 0 ? `The fabric loses ${money(-gain)} on this object.` : "The fabric leaves this object as it is.";
  const above = object.above_optimum;
  const beside = above > 0 ? `${money(above)} above the optimum, which knows every read to come.` : above < 0 ? `${money(-above)} below the optimum, which uses plain classes only.` : "No placement costs less.";
  return h("section", { class: "why" }, h("p", { class: "reason" }, h("strong", { class: gain < 0 ? "loss" : "gain" }, text), " ", beside),
    h("p", { class: "quiet" }, same ? "Billed again from its moves just now: the same figures." : "Billed again from its moves just now: the figures differ."));
}

/** Reads a day as bars, and the fabric's moves as lines; the table below says the same in words. */
function days({ reads, versions, sides: { fabric } }) {
  if (!reads.daily.length) return null;
  const first = versions[0].from_day;
  const last = Math.max(first + 1, versions.at(-1).to_day);
  const most = Math.max(...reads.daily.map(([, count]) => count));
  const x = (day) => ((day - first) / (last - first)) * 1000;
  const wide = Math.max(1.5, 1000 / (last - first) - 0.5);
  const drawing = s("svg", { class: "days", viewBox: "0 0 1000 96", preserveAspectRatio: "none", "aria-hidden": "true" },
    reads.daily.map(([day, count]) => s("rect", { class: "read", x: x(day).toFixed(1), width: wide.toFixed(2), y: (94 - (count / most) * 84).toFixed(1), height: ((count / most) * 84 + 2).toFixed(1) })),
    fabric.moves.filter(({ from }) => from).map(({ day }) => s("path", { class: "move", d: `M${x(day).toFixed(1)} 0V96` })));
  return h("figure", { class: "chart" }, h("div", { class: "chart-head" }, h("figcaption", {}, "Reads a day; lines are the fabric's moves"), h("span", {}, `at most ${whole(most)} a day`)), drawing);
}

function sides(found) {
  const cell = (side, line) => h("td", { class: "number-cell" }, found[side].lines[line] ? money(found[side].lines[line]) : "–");
  return h("div", { class: "scroll sides", tabindex: "0", role: "region", "aria-label": "What each course costs" }, h("table", {}, h("caption", { class: "hidden" }, "What each course costs"),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Line"), SIDES.map(([, label]) => h("th", { scope: "col", class: "figures-head" }, label)))),
    h("tbody", {}, LINES.map((line) => h("tr", {}, h("th", { scope: "row" }, words(line)), SIDES.map(([side]) => cell(side, line)))),
      h("tr", { class: "sum" }, h("th", { scope: "row" }, "Total"), SIDES.map(([side]) => h("td", { class: "number-cell", "data-total": side }, h("strong", {}, money(found[side].total))))))));
}

function moves({ moves: rows, moves_in_all: all }, when, label) {
  const several = rows.some(({ version }) => version > 1);
  const head = [several ? "Version" : null, "When", "From", "To", "After reads"].filter(Boolean);
  return h("div", {}, h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, h("table", {}, h("caption", { class: "hidden" }, label),
    h("thead", {}, h("tr", {}, head.map((name) => h("th", { scope: "col", class: name === "After reads" ? "figures-head" : null }, name)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, several ? h("td", {}, whole(row.version)) : null, h("td", { class: "short" }, when(row.day)), h("td", { class: "short" }, row.from ? className(row.from) : "appears"),
      h("td", { class: "short" }, h("span", { class: "pill" }, className(row.class))), h("td", { class: "number-cell" }, whole(row.after_reads))))))),
  all > rows.length ? h("p", { class: "quiet" }, `${whole(all)} in all; the first and the last are shown.`) : null);
}

/** The same rule under the gate: what each demotion's factors, score and confidence were. Promotions are exempt. */
function gate({ gate: found }, when) {
  if (!found) return null;
  const { terms: { weights, score, confidence, floor } } = found;
  const head = ["f", "l", "c", "t", "score", "confidence"];
  const row = (move) => h("tr", {}, h("td", { class: "short" }, when(move.day)), h("td", { class: "short" }, move.from ? `${className(move.from)} to ${className(move.class)}` : `appears in ${className(move.class)}`),
    move.figures ? head.map((name) => h("td", { class: "number-cell" }, move.figures[name].toFixed(3))) : h("td", { colspan: String(head.length), class: "quiet" }, move.from ? "a read that has paid for it: exempt" : "–"));
  return section("Under the gate", h("div", { class: "scroll gate", tabindex: "0", role: "region", "aria-label": "Moves under the gate" }, h("table", {}, h("caption", { class: "hidden" }, "Moves under the gate"),
    h("thead", {}, h("tr", {}, ["When", "Move", ...head].map((name) => h("th", { scope: "col", class: head.includes(name) ? "figures-head" : null }, name)))),
    h("tbody", {}, found.moves.map(row)))),
  h("p", { class: "quiet" }, `${money(found.total)} in all. A demotion asks for a score of ${weights.map((each, at) => `${each} ${head[at]}`).join(" + ")} above ${score}, a confidence above ${confidence}, and each factor at ${floor} or more: f fit of the reads to the class, l latency, c saving against cost, t trend.`));
}

const missing = (found) => section("What this receipt cannot say", h("dl", { class: "facts missing" }, Object.entries(found).map(([name, why]) => h("div", {}, h("dt", {}, name), h("dd", {}, why)))));

/** The counterfactual: which class is cheapest to stay in, by reads a month. */
function turns({ counterfactual: { cheapest, reads_a_month: now, held, bytes_a_read: moved } }) {
  const said = cheapest.map(({ class: name, from_reads_a_month: from, to_reads_a_month: to }) => {
    const text = to === null ? (from > 0 ? `from ${figure(from)} reads a month` : "at any number of reads") : from > 0 ? `${figure(from)} to ${figure(to)} reads a month` : `under ${figure(to)} reads a month`;
    return h("li", { "data-now": String(now >= from && (to === null || now < to)) }, h("strong", {}, className(name)), h("span", {}, text));
  });
  return section("At how many reads the answer turns", h("ul", { class: "turns" }, said),
    h("p", { class: "quiet" }, `It was read ${figure(now)} times a month on average, ${size(moved)} each time, and ends in ${className(held)}. This is the cost of staying in a plain class; coming in and minimum durations are paid once, and the rule weighs them on top.`));
}

function priceTable(rows) {
  const columns = [["storage_per_gb_month", "Storage, GB and month"], ["get_per_1k", "1,000 reads"], ["retrieval_per_gb", "Retrieval, GB"], ["transition_in_per_1k", "1,000 moves in"]];
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Prices used" }, h("table", {}, h("caption", { class: "hidden" }, "Prices used"),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Class"), columns.map(([, label]) => h("th", { scope: "col", class: "figures-head" }, label)), h("th", { scope: "col", class: "figures-head" }, "Least days"), h("th", { scope: "col", class: "figures-head" }, "Least size"))),
    h("tbody", {}, rows.map((row) => h("tr", {}, h("th", { scope: "row" }, className(row.class)), columns.map(([name]) => h("td", { class: "number-cell" }, money(row[name]))), h("td", { class: "number-cell" }, row.min_days ? whole(row.min_days) : "–"), h("td", { class: "number-cell" }, row.min_billable_bytes ? size(row.min_billable_bytes) : "–"))))));
}

function proof({ inputs, command, hash }) {
  const copied = h("span", { class: "quiet", role: "status" });
  const copy = h("button", { type: "button", class: "button small", onclick: async () => {
    await navigator.clipboard.writeText(command).then(() => say(copied, "copied"), () => say(copied, "select and copy it by hand"));
  } }, "Copy");
  return section("The same figure on the command line", h("div", { class: "command" }, h("code", { class: "replay-command" }, command), copy, copied),
    h("dl", { class: "facts" }, h("div", {}, h("dt", {}, "Hash of all inputs"), h("dd", { class: "input-hash" }, inputs.sha256)),
      h("div", {}, h("dt", {}, "Hash of this object's inputs"), h("dd", { class: "object-hash" }, hash)),
      inputs.files.map(({ name, sha256 }) => h("div", {}, h("dt", {}, name), h("dd", {}, `SHA-256 ${sha256}`)))));
}

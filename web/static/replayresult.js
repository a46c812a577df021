// What came of a replay: what was paid, every policy's bill in one table, what was assumed, and every object.

import { h } from "./dom.js";
import { figure, money, size, whole, words } from "./format.js";
import { openReceipt } from "./receipt.js";
import { PROVIDERS, className, policySays, policyTitle } from "./policies.js";
import { replayObjects } from "./api.js";
import { PagedTable, plainTable } from "./table.js";

const LINES = ["storage", "requests", "retrieval", "transition", "minimum_duration", "monitoring"];
const OWN = new Set(["fabric", "fabric_gated"]);
const BAR_TIMES = 3; // of the optimum, that fill a bar
const SAMPLES_SHOWN = 2;
const SHOWN = 50; // rows of a plain table

export function drawResult(id, { document: found, seconds }, title) {
  if (found.kind === "inventory") return drawInventory(found, title);
  return [head(found, title, seconds), policiesSheet(found), found.bill ? invoiceSheet(found.bill) : null, saidSheet(found), objectsSheet(id)].filter(Boolean);
}

function head(found, title, seconds) {
  const { trace } = found;
  return h("section", { class: "lead" }, h("h2", { class: "key-line" }, title),
    h("p", {}, `${whole(trace.reads)} reads of ${whole(trace.lives)} versions over ${whole(trace.days)} days, ${size(trace.bytes)} stored, at ${PROVIDERS[found.provider] ?? found.provider} prices. Worked out in ${figure(seconds, "seconds")}; nothing was moved.`));
}

/** The four figures that answer the question. */
function heads(found) {
  const all = Object.entries(found.policies);
  const nothing = Object.values(found.do_nothing).reduce((sum, usd) => sum + usd, 0);
  const published = all.filter(([name]) => found.online[name] && !OWN.has(name)).sort((a, b) => a[1].total - b[1].total)[0];
  const fabric = found.policies.fabric;
  const items = [
    found.bill ? ["paid", "Paid", found.bill.invoice.total, found.bill.invoice.taxes ? "as the invoice says, before taxes" : "as the invoice says"] : null,
    ["nothing", "Doing nothing", nothing, times(nothing, found.optimum)],
    published ? ["published", "Best published rule", published[1].total, `${policyTitle(published[0])}, ${times(published[1].total, found.optimum)}`] : null,
    fabric ? ["fabric", "This fabric", fabric.total, `${times(fabric.total, found.optimum)}${saved(nothing, fabric.total)}`] : null,
    ["optimum", "Optimum", found.optimum, "in plain classes, knowing every read to come"],
  ].filter(Boolean);
  return h("dl", { class: "heads" }, items.map(([who, label, usd, text]) => h("div", { class: "head", "data-who": who }, h("dt", {}, label), h("dd", {}, h("strong", {}, money(usd)), h("span", {}, text)))));
}

const times = (usd, optimum) => (optimum > 0 ? `${(usd / optimum).toFixed(3)} × optimum` : "the optimum costs nothing");
const saved = (nothing, fabric) => (nothing > 0 ? `, ${Math.abs(100 - (100 * fabric) / nothing).toFixed(1)} % ${fabric <= nothing ? "less" : "more"} than doing nothing` : "");

function policiesSheet(found) {
  const { low, high } = found.egress;
  return h("section", { class: "sheet", "aria-label": "Policies" }, heads(found), h("h2", {}, "The same reads under every policy"), new PolicyTable(found).element,
    h("p", { class: "quiet" }, `Carrying the bytes to their readers costs ${money(low)} to ${money(high)} under every policy alike, and is in no total.${found.classes.some((name) => found.prices.some((row) => row.class === name && row.managed)) ? " The optimum uses plain classes only, so a policy with the managed tier may cost less." : ""}${gate(found.price_of_gate_usd)}`));
}

/** The gate's price: what the score and the floors cost beside the money rule alone; results of old releases lack it. */
function gate(more) {
  if (typeof more !== "number") return "";
  return more > 0 ? ` The gates cost ${money(more)} here.` : ` The gates cost nothing here${more < 0 ? `: they save ${money(-more)}` : ""}.`;
}

class PolicyTable {
  constructor(found) {
    this.rows = Object.entries(found.policies).map(([policy, { total, lines, ratio_to_optimum: ratio }]) => ({ policy, total, ratio, ...lines }));
    this.most = BAR_TIMES * found.optimum || Math.max(...this.rows.map(({ total }) => total));
    this.by = "total";
    this.rising = true;
    this.body = h("tbody");
    this.heads = ["policy", "total", "ratio", ...LINES].map((name) => this.header(name));
    this.heads.splice(3, 0, h("th", { scope: "col" }, h("span", { class: "hidden" }, "Bar")));
    this.element = h("div", { class: "scroll policies", tabindex: "0", role: "region", "aria-label": "Policies, table" },
      h("table", {}, h("caption", { class: "hidden" }, "Total and lines of every policy"), h("thead", {}, h("tr", {}, this.heads)), this.body));
    this.draw();
  }

  header(name) {
    const label = { ratio: "× optimum", minimum_duration: "Minimum" }[name] ?? words(name);
    const cell = h("th", { scope: "col", "data-name": name, class: name === "policy" ? null : "figures-head" }, h("button", { type: "button", class: "sort", onclick: () => this.sort(name) }, label));
    return cell;
  }

  sort(name) {
    this.rising = this.by === name ? !this.rising : true;
    this.by = name;
    this.draw();
  }

  draw() {
    const way = this.rising ? 1 : -1;
    const value = (row) => (this.by === "policy" ? policyTitle(row.policy) : row[this.by] ?? Infinity);
    const sorted = [...this.rows].sort((a, b) => (value(a) < value(b) ? -way : value(a) > value(b) ? way : 0));
    for (const cell of this.heads) if (cell.dataset.name) cell.setAttribute("aria-sort", cell.dataset.name === this.by ? (this.rising ? "ascending" : "descending") : "none");
    this.body.replaceChildren(...sorted.map((row) => this.row(row)));
  }

  row(row) {
    const who = OWN.has(row.policy) ? "fabric" : row.policy === "optimum" ? "optimum" : "rule";
    const off = row.total > this.most;
    return h("tr", { "data-who": who, "data-policy": row.policy }, h("th", { scope: "row" }, policyTitle(row.policy), h("small", {}, policySays(row.policy))),
      h("td", { class: "number-cell" }, h("strong", {}, money(row.total))),
      h("td", { class: "number-cell" }, typeof row.ratio === "number" ? row.ratio.toFixed(3) : "–"),
      h("td", { class: "bar-cell" }, h("meter", { min: 0, max: this.most, value: Math.min(row.total, this.most), "aria-label": `${policyTitle(row.policy)}: ${money(row.total)}` }), off ? h("span", { class: "beyond" }, "off the scale") : null),
      LINES.map((line) => h("td", { class: "number-cell" }, row[line] ? money(row[line]) : "–")));
  }
}

function invoiceSheet({ invoice, do_nothing: nothing, differences }) {
  const rows = differences.map((one) => ({ line: words(one.line), class: one.class && className(one.class), replay_usd: one.replay_usd, invoice_usd: one.invoice_usd, cause: one.cause }));
  return h("section", { class: "sheet", "aria-label": "Invoice" }, h("h2", {}, "The invoice beside the replay"),
    h("p", { class: "quiet" }, `The invoice says ${money(invoice.total)}${invoice.days ? ` for ${figure(invoice.days)} days` : ""}; the same reads with everything left where it lies come to ${money(nothing.total)}.`),
    plainTable("Invoice and replay, line by line", rows, ["line", "class", "invoice_usd", "replay_usd", "cause"]), beyond(rows) ?? "");
}

/** What was assumed, what was rejected, what the log lacks. */
function saidSheet(found) {
  const told = found.import ?? {};
  const rejected = Object.entries(told.rejected ?? {});
  const parts = [
    found.notes?.length ? block("Note", found.notes) : null,
    block("Assumed", found.assumptions.length ? found.assumptions : ["Nothing: every size and time was stated."]),
    told.read === undefined ? null : block("Lines", [`${whole(told.read)} read, ${whole(told.accepted)} used, ${whole(told.repeated)} repeated`,
      rejected.length ? `${whole(rejected.reduce((sum, [, count]) => sum + count, 0))} rejected` : "none rejected", ...Object.entries(told.left_out ?? {}).filter(([, count]) => count).map(([what, count]) => `${whole(count)} ${what} left out`)]),
    rejected.length ? block("Rejected", rejected.map(([reason, count]) => `${whole(count)} × ${reason}${sample(told.samples?.[reason])}`)) : null,
    found.coverage?.known ? block("Coverage", [`the log holds ${figure(found.coverage.share * 100, "percent")} of the accesses (${figure(found.coverage.low * 100, "percent")} to ${figure(found.coverage.high * 100, "percent")})`, ...found.coverage.evidence]) : null,
    found.coverage && !found.coverage.known ? block("Coverage", ["how much of the accesses the log holds cannot be told from it", ...found.coverage.evidence]) : null,
    found.scanners?.length ? block("Scanners", found.scanners.map((one) => `${one.requester}: ${whole(one.reads)} reads in ${figure(one.passes)} passes`)) : null,
  ];
  return h("section", { class: "sheet said-sheet", "aria-label": "Assumptions" }, h("h2", {}, "What this rests on"), h("div", { class: "said" }, parts.filter(Boolean)));
}

const block = (title, items) => h("section", {}, h("h3", {}, title), h("ul", {}, items.map((item) => h("li", {}, item))));
const sample = (kept) => (kept?.length ? `, such as ${kept.slice(0, SAMPLES_SHOWN).map(([, text]) => `“${text.slice(0, 120)}”`).join(" and ")}` : "");

const SORTS = { saving: "saving", above_optimum: "above_optimum", fabric: "fabric", do_nothing: "do_nothing", optimum: "optimum", moves: "moves", reads: "reads", size_bytes: "size" };

/** Objects, the largest figure of a column first; the server sorts and searches. */
class ObjectTable extends PagedTable {
  constructor(id) {
    super("replay", "objects", "Objects", () => {});
    this.input.setAttribute("placeholder", "Search by part of a name");
    this.id = id;
    this.sort = "saving";
    this.load();
  }

  async ask({ search, cursor, limit }) {
    return replayObjects(this.id, { search, cursor, limit, sort: this.sort });
  }

  load() {
    return this.id ? super.load() : undefined;
  }

  headOf({ name, label }) {
    const by = SORTS[name];
    if (!by) return h("th", { scope: "col" }, label);
    return h("th", { scope: "col", class: "figures-head", "aria-sort": by === this.sort ? "descending" : "none" },
      h("button", { type: "button", class: "sort", onclick: () => this.resort(by) }, label));
  }

  resort(by) {
    Object.assign(this, { sort: by, cursors: [""], at: 0 });
    this.load();
  }

  cell(column, row) {
    const cell = super.cell(column, row);
    if (column.name === "saving" && row.saving) cell.classList.add(row.saving > 0 ? "gain-cell" : "loss-cell");
    return cell;
  }

  keyButton(key, row) {
    return h("button", { type: "button", class: "link", onclick: () => openReceipt(this.id, row.number) }, key);
  }
}

const objectsSheet = (id) => h("section", { class: "sheet objects", "aria-label": "Object by object" }, h("h2", {}, "Object by object"),
  h("p", { class: "quiet" }, "Press an object for its receipt: every move, every line, the prices, and at how many reads the answer turns."), new ObjectTable(id).element);

const beyond = (rows) => (rows.length > SHOWN ? h("p", { class: "quiet" }, `The first ${SHOWN} of ${whole(rows.length)} rows are shown; all are in `, h("a", { href: `/api${location.pathname.replace("time-machine", "replays")}` }, "the JSON"), ".") : null);

function drawInventory(found, title) {
  const { logging, total } = found;
  const what = found.store ? "A scan" : "An inventory";
  const today = found.bill.map((row) => ({ folder: row.prefix, class: className(row.storage_class), objects: row.objects, size_bytes: row.size_bytes, a_month: span(row) }));
  const others = found.break_evens.map((row) => ({ folder: row.prefix, now_in: className(row.storage_class), candidate: className(row.candidate), storage_a_month_there: span(row), moving_once_usd: row.transition_usd, when: row.verdict }));
  const price = logging.usd_per_million_reads;
  return [h("section", { class: "lead" }, h("h2", { class: "key-line" }, title), h("p", {}, `${what} alone says what is stored, not what is read: so today's storage has a bill, and every saving a best and a worst case.`)),
    h("section", { class: "sheet", "aria-label": "Today" }, h("h2", {}, `Storage a month today: ${span(total)}`), plainTable("Storage a month today", today), beyond(found.bill) ?? ""),
    h("section", { class: "sheet", "aria-label": "Break-evens" }, h("h2", {}, "When another class pays"), plainTable("When another class pays", others), beyond(found.break_evens) ?? ""),
    found.bill_beside ? invoiceSheet(found.bill_beside) : null,
    h("section", { class: "sheet", "aria-label": "Logging" }, h("h2", {}, "To know the reads, have them logged"), h("div", { class: "command" }, h("code", {}, logging.command)),
      h("p", { class: "quiet" }, `${price.high ? `Keeping the log costs ${money(price.low)} to ${money(price.high)} a month and million reads: ` : ""}${logging.what}.`)),
    saidSheet(found)].filter(Boolean);
}

/** An amount with its least and most, where they differ from it. */
const span = ({ usd, low, high }) => (low === usd && usd === high ? money(usd) : `${money(usd)} (${money(low)} to ${money(high)})`);

// Everything behind a card, a page at a time: the server pages and searches, so 100,000 rows cost as much as 100.

import { page } from "./api.js";
import { actButtons } from "./acts.js";
import { h, say } from "./dom.js";
import { figure, prose, unitOf, whole, words } from "./format.js";

const ROWS = 100;
const FEW_ROWS = 10; // seen at once: nothing to search
const TYPING_MS = 250;
const REFRESH_MS = 2000;

export class PagedTable {
  constructor(section, kind, label, openObject) {
    Object.assign(this, { section, kind, label, openObject, cursors: [""], at: 0, search: "", asked: 0 });
    this.input = h("input", { type: "search", placeholder: "Search by key, id or state", "aria-label": `Search ${label}`,
      oninput: () => this.typed() });
    this.count = h("p", { class: "rows-count", role: "status" }, "loading");
    this.note = h("p", { class: "note" });
    this.head = h("thead");
    this.body = h("tbody");
    this.before = h("button", { type: "button", class: "button", onclick: () => this.turn(-1) }, "Previous");
    this.after = h("button", { type: "button", class: "button", onclick: () => this.turn(1) }, "Next");
    this.scroll = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${label}, table` },
      h("table", {}, h("caption", { class: "hidden" }, label), this.head, this.body));
    this.element = h("section", { class: "paged", "aria-label": label },
      this.tools = h("div", { class: "table-tools" }, this.input, this.count),
      this.note,
      this.scroll,
      this.pager = h("div", { class: "pager" }, this.before, this.after));
    this.load();
  }

  typed() {
    clearTimeout(this.typing);
    this.typing = setTimeout(() => {
      Object.assign(this, { search: this.input.value.trim(), cursors: [""], at: 0 });
      this.load();
    }, TYPING_MS);
  }

  turn(step) {
    this.at += step;
    this.load();
  }

  /** Load again soon, once, however many changes came meanwhile. */
  refresh() {
    if (this.waiting) return;
    this.waiting = setTimeout(() => {
      this.waiting = null;
      if (this.element.isConnected) this.load();
    }, REFRESH_MS);
  }

  async load() {
    const asked = ++this.asked;
    try {
      const found = await this.ask({ search: this.search, cursor: this.cursors[this.at], limit: ROWS });
      if (asked === this.asked) this.draw(found);
    } catch (error) {
      if (asked === this.asked) say(this.count, `Not available: ${error.message}`);
    }
  }

  /** Ask for one page; other tables ask elsewhere. */
  ask(options) {
    return page(this.section, this.kind, options);
  }

  headOf({ label }) {
    return h("th", { scope: "col" }, label);
  }

  draw({ columns, rows, total, cursor, note }) {
    if (cursor) this.cursors[this.at + 1] = cursor;
    const first = this.at * ROWS + 1;
    const range = rows.length ? `${whole(first)}–${whole(first + rows.length - 1)} of ${whole(total)}` : "";
    say(this.count, rows.length ? range : this.search ? "Nothing matches the search." : "Nothing here yet.");
    this.count.dataset.total = total;
    say(this.note, note || "");
    this.before.disabled = this.at === 0;
    this.after.disabled = !cursor;
    this.input.hidden = !this.search && total <= FEW_ROWS;
    this.pager.hidden = total <= ROWS;
    this.scroll.hidden = !rows.length;
    const acting = rows.some((row) => actButtons(this.section, row, () => {}).length);
    this.head.replaceChildren(h("tr", {}, columns.map((column) => this.headOf(column)),
      acting && h("th", { scope: "col" }, "Acts")));
    this.body.replaceChildren(...rows.map((row) => h("tr", {}, columns.map((column) => this.cell(column, row)),
      acting && h("td", { class: "acts" }, actButtons(this.section, row, () => this.load())))));
  }

  cell({ name, unit, label }, row) {
    const value = row[name];
    if (name === "key" && value) return h("td", { class: "key" }, this.keyButton(value, row));
    return cellOf(name, unit, value, label);
  }

  keyButton(key) {
    return h("button", { type: "button", class: "link", onclick: () => this.openObject(key) }, key);
  }
}

const BADGES = new Set(["state", "severity", "verdict", "status", "outcome"]);

const SHORT = 34; // characters that stay on one line

/** Return a table cell of a value; "–" where nothing is known or nothing applies. */
export function cellOf(name, unit, value, label = "") {
  if (value === null || value === undefined || value === "") return h("td", { class: "none" }, "–");
  if (BADGES.has(name)) return h("td", {}, h("span", { class: "pill", "data-word": String(value).toLowerCase() }, String(value)));
  const numeric = typeof value === "number" && (unit ?? unitOf(name)) !== "time";
  const text = typeof value === "object" ? brief(value) : figure(typeof value === "string" ? prose(value) : value, unit ?? unitOf(name), 1, label);
  return h("td", { class: numeric ? "number-cell" : text.length <= SHORT ? "short" : "long" }, text);
}

function brief(value) {
  if (Array.isArray(value)) return value.map((item) => (item !== null && typeof item === "object" ? brief(item) : String(item))).join(", ");
  return Object.entries(value).map(([name, item]) => `${words(name)}: ${item !== null && typeof item === "object" ? brief(item) : figure(item, unitOf(name))}`).join("; ");
}

/** Return a plain table of a list of objects; `columns` are names, by default every one that the rows have. */
export function plainTable(label, rows, columns = null) {
  const names = columns ?? [...new Set(rows.flatMap((row) => Object.keys(row)))].slice(0, 10);
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
    h("table", {}, h("caption", { class: "hidden" }, label),
      h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col" }, words(name))))),
      h("tbody", {}, rows.slice(0, 50).map((row) => h("tr", {}, names.map((name) => cellOf(name, undefined, row[name])))))));
}

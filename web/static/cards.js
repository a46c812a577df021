// The seven cards. A card is built once; changes touch only what differs, so focus and selection stay.

import { sparkline } from "./charts.js";
import { byId, h, say } from "./dom.js";
import { duration, figure, prose, sentence } from "./format.js";
import { SECTIONS, ageOf, isStale, moneyScale, state } from "./state.js";

const FIGURES_MOST = 6;
const PROGRESS_MOST = 2;
const cards = new Map();

export function buildCards(open) {
  const grid = byId("cards");
  for (const [section, about] of Object.entries(SECTIONS)) {
    const card = new Card(section, about, open);
    cards.set(section, card);
    grid.append(card.element);
  }
}

export function drawCards(sections) {
  for (const section of sections) cards.get(section)?.draw(state.status[section]);
}

/** Once a second: ages grow by themselves, without asking anybody. */
export function drawAges() {
  for (const [section, card] of cards) card.drawAge(state.status[section]);
}

const BILL_MOST = 6;
const MOVES_MOST = 3;
const ALERTS_MOST = 3;

/** What some cards show beside their figures: where the money goes, and what needs a person. */
const EXTRAS = {
  optimization: ({ tables = {}, best_moves: moves = [], objects_scored: scored }) => {
    const scale = moneyScale("optimization");
    const rows = (tables.bill?.rows ?? []).map((row) => ({ place: `${row.store}/${row.storage_class}${row.prefix === "(managed)" ? "" : ` ${row.prefix}`}`, usd: (row.storage_usd ?? 0) + (row.reads_usd ?? 0) + (row.egress_usd ?? 0), sunk: row.sunk_usd ?? 0 }));
    const billed = rows.some(({ usd }) => usd > 0);
    const paid = rows.map((row) => ({ place: row.place, usd: billed ? row.usd : row.sunk })).filter(({ usd }) => usd > 0).sort((a, b) => b.usd - a.usd).slice(0, BILL_MOST);
    const most = paid[0]?.usd ?? 0;
    const bill = paid.length ? [h("section", {}, h("h3", {}, billed ? "Billed a month, by place" : "Own capacity a month, an estimate"), h("ul", { class: "bill-bars" }, paid.map(({ place, usd }) =>
      h("li", {}, h("span", {}, place), h("meter", { min: 0, max: most, value: usd, "aria-label": place }), h("strong", {}, figure(usd, "usd", scale))))))] : [];
    if (!rows.length) return [];
    if (!scored) return bill;
    return [...bill, h("section", {}, h("h3", {}, "Moves that save most"), moves.length
      ? h("ul", { class: "moves" }, moves.slice(0, MOVES_MOST).map((move) => h("li", {}, h("span", {}, move.key), h("strong", {}, `${figure(move.saving_usd_month, "usd", scale)} a month`), h("small", {}, `${move.source} to ${move.target}, ${figure(move.move_cost_usd, "usd", scale)} once`))))
      : h("p", { class: "quiet" }, "None open: a move that pays is under way already, or there is none."))];
  },
  alerts: ({ tables = {} }) => {
    const rows = (tables.alerts?.rows ?? []).slice(0, ALERTS_MOST);
    return rows.length ? [h("ul", { class: "moves" }, rows.map((row) => h("li", {}, h("span", {}, sentence(String(row.title ?? row.id))), h("strong", {}, h("span", { class: "pill", "data-word": row.severity }, row.severity)), h("small", {}, row.where || ""))))] : [];
  },
};

class Card {
  constructor(section, about, open) {
    this.section = section;
    const id = `card-${section}`;
    this.dot = h("span", { class: "dot", "aria-hidden": "true" });
    this.stateText = h("span", { class: "state-text" }, "waiting");
    this.tag = h("span", { class: "tag", hidden: true }, "sample");
    this.figures = h("ul", { class: "figures" });
    this.source = h("p", { class: "source", id: `${id}-source`, role: "status", hidden: true });
    this.chart = h("div", { class: "spark-box" });
    this.extra = h("div", { class: "extra" });
    this.progress = h("div", { class: "progress-list" });
    this.note = h("p", { class: "note" });
    this.mark = h("p", { class: "mark", hidden: true });
    this.age = h("p", { class: "age" });
    this.title = h("button", { type: "button", class: "open", "aria-haspopup": "dialog", onclick: () => open(section) }, about.title);
    this.element = h("article", { class: "card", id, "data-section": section, "data-state": "absent", "aria-labelledby": `${id}-title` },
      h("header", {},
        h("span", { class: "number", "aria-hidden": "true" }, about.number),
        h("h2", { id: `${id}-title` }, this.title),
        h("p", { class: "state" }, this.dot, this.stateText),
        h("p", { class: "asks" }, about.asks)),
      this.mark, this.figures, this.source, this.chart, this.extra, this.progress, this.note, h("footer", { class: "card-foot" }, this.age, section === "optimization" ? h("a", { class: "machine-link", href: "/time-machine" }, "Time machine") : "", this.tag));
    this.buttons = [];
  }

  draw(data) {
    if (!data) return;
    this.element.dataset.state = data.state;
    this.element.dataset.sequence = data.sequence ?? "";
    this.tag.hidden = data.world !== "sample";
    say(this.stateText, data.state === "absent" ? "no report" : data.state);
    say(this.note, prose(data.note || ""));
    this.drawMark(data);
    this.drawFigures(data);
    this.drawChart(data);
    this.extra.replaceChildren(...(EXTRAS[this.section]?.(data) ?? []));
    this.drawProgress(data);
    this.drawAge(data);
  }

  drawMark({ report }) {
    const texts = {
      edited: "Edited by hand: this report was not written by the fabric. It feeds neither alerts nor metrics.",
      invalid: `The report file is unreadable; the last good figures are shown. (${report.problem})`,
      missing: report.age_seconds === null ? "" : "The report file is gone; the last good figures are shown.",
    };
    say(this.mark, texts[report.status] || "");
    this.mark.hidden = !texts[report.status];
    this.element.dataset.report = report.status;
  }

  drawFigures(data) {
    const shown = (data.headline || []).slice(0, FIGURES_MOST);
    while (this.buttons.length > shown.length) this.buttons.pop().parentElement.remove();
    while (this.buttons.length < shown.length) this.addFigure();
    const scale = moneyScale(this.section);
    shown.forEach((item, i) => {
      const [value, label] = this.buttons[i].children;
      const many = scale !== 1 && String(item.unit).startsWith("usd") ? ` (objects × ${scale.toLocaleString("en")})` : "";
      say(value, figure(item.value, item.unit, scale, item.label));
      say(label, item.label + many);
      this.buttons[i].dataset.unknown = item.value === null;
    });
    if (!this.source.hidden) this.showSource(this.shown);
  }

  addFigure() {
    const index = this.buttons.length;
    const button = h("button", { type: "button", class: "figure", "aria-expanded": "false", "aria-controls": this.source.id,
      onclick: () => this.toggleSource(index) }, h("strong", {}), h("span", {}));
    this.buttons.push(button);
    this.figures.append(h("li", {}, button));
  }

  toggleSource(index) {
    const opening = this.source.hidden || this.shown !== index;
    this.source.hidden = !opening;
    this.buttons.forEach((button, i) => button.setAttribute("aria-expanded", String(opening && i === index)));
    if (opening) this.showSource(index);
  }

  showSource(index) {
    this.shown = index;
    const item = state.status[this.section].headline?.[index];
    if (!item) return void (this.source.hidden = true);
    const scale = moneyScale(this.section);
    const range = typeof item.low === "number" && typeof item.high === "number"
      ? ` Between ${figure(item.low, item.unit, scale)} and ${figure(item.high, item.unit, scale)}.` : "";
    say(this.source, `${item.label}: ${prose(item.source || "the report names no source")}.${range}`);
  }

  drawChart(data) {
    const first = data.series?.[0];
    const drawing = first ? sparkline(first) : null;
    this.chart.replaceChildren(...(drawing ? [drawing, h("span", { class: "spark-label" }, first.label)] : []));
  }

  drawProgress(data) {
    const running = (data.progress || []).slice(0, PROGRESS_MOST);
    this.progress.replaceChildren(...running.map(progressBar));
    const more = (data.progress || []).length - running.length;
    if (more > 0) this.progress.append(h("p", { class: "more" }, `and ${more} more`));
  }

  drawAge(data) {
    if (!data) return;
    const age = ageOf(data);
    const stale = isStale(data);
    this.element.classList.toggle("stale", stale);
    if (age === null) return say(this.age, "");
    const rounded = duration(age < 60 ? Math.floor(age) || 0.5 : Math.floor(age));
    say(this.age, stale ? `Overdue: these figures are ${rounded} old` : age < 1 ? "just now" : `${rounded} ago`);
  }
}

/** Return a bar of long work, with its rate and the time left. */
export function progressBar(item) {
  const rate = typeof item.rate === "number" ? ` · ${figure(item.rate, item.unit)}/s` : "";
  const left = typeof item.eta_seconds === "number" ? ` · ${duration(item.eta_seconds)} left` : "";
  const total = item.total === null ? "" : ` of ${figure(item.total, item.unit)}`;
  const label = h("span", { class: "progress-label" }, item.label);
  const bar = h("progress", { max: item.total ?? 1, "aria-label": item.label });
  if (item.total !== null) bar.value = item.done;
  return h("div", { class: "progress" }, label, bar, h("span", { class: "progress-text" }, `${figure(item.done, item.total === null || item.unit === "bytes" ? item.unit : "")}${total}${rate}${left}`));
}

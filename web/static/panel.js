// The dialog behind a card: overview, every table, and the report it all comes from.

import { chart } from "./charts.js";
import { progressBar } from "./cards.js";
import { byId, h } from "./dom.js";
import { figure, prose, time, words } from "./format.js";
import { SECTIONS, moneyScale, state, watch } from "./state.js";
import { PagedTable } from "./table.js";

const EXTRA = { optimization: ["showback"] }; // tabs that no report carries: worked out when somebody looks

let stop = () => {};

export function openPanel(section, openObject, wanted = null) {
  const dialog = byId("panel");
  const panel = new Panel(section, openObject, dialog);
  stop();
  stop = watch((sections) => sections.includes(section) && panel.changed());
  dialog.onclose = () => {
    stop();
    history.replaceState(null, "", location.pathname);
  };
  panel.build(wanted);
  if (!dialog.open) dialog.showModal();
}

class Panel {
  constructor(section, openObject, dialog) {
    Object.assign(this, { section, openObject, dialog });
  }

  get data() {
    return state.status[this.section] ?? { headline: [], tables: {}, report: {} };
  }

  build(wanted) {
    const about = SECTIONS[this.section];
    const kinds = Object.keys(this.data.tables ?? {});
    this.tabs = ["overview", ...kinds, ...(EXTRA[this.section] ?? []), "report"];
    this.buttons = this.tabs.map((name) => h("button", { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": "panel-body",
      onclick: () => this.show(name), onkeydown: (event) => this.arrow(event) }, words(name),
      this.data.tables?.[name] ? h("span", { class: "tab-count" }, figure(this.data.tables[name].total)) : null));
    this.body = h("div", { id: "panel-body", class: "panel-body", role: "tabpanel", tabindex: "0" });
    this.dialog.replaceChildren(
      h("header", { class: "panel-head" },
        h("div", {}, h("h2", { id: "panel-title" }, about.title), h("p", {}, about.asks)),
        this.section === "optimization" ? h("a", { class: "button", href: "/time-machine" }, "Time machine") : "",
        h("button", { type: "button", class: "button", "aria-label": `Close ${about.title}`, onclick: () => this.dialog.close() }, "Close")),
      h("div", { class: "tabs", role: "tablist", "aria-label": about.title }, this.buttons), this.body);
    this.show(this.tabs.includes(wanted) ? wanted : "overview");
  }

  arrow(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    const next = (this.tabs.indexOf(this.tab) + step + this.tabs.length) % this.tabs.length;
    this.show(this.tabs[next]);
    this.buttons[next].focus();
  }

  show(name) {
    this.tab = name;
    this.buttons.forEach((button, i) => {
      const chosen = this.tabs[i] === name;
      button.setAttribute("aria-selected", String(chosen));
      button.tabIndex = chosen ? 0 : -1;
    });
    this.body.setAttribute("aria-labelledby", `tab-${name}`);
    history.replaceState(null, "", `#card/${this.section}/${name}`);
    this.table = null;
    this.draw();
  }

  changed() {
    const kinds = Object.keys(this.data.tables ?? {});
    this.buttons.forEach((button, i) => {
      const table = this.data.tables?.[this.tabs[i]];
      const count = button.querySelector(".tab-count");
      if (table && count) count.textContent = figure(table.total);
    });
    if (kinds.some((kind) => !this.tabs.includes(kind))) this.build(this.tab);
    else if (this.table) this.table.refresh();
    else if (this.tab !== "showback" && !this.body.matches(":focus-within")) this.draw();
  }

  draw() {
    if (this.tab === "overview") this.body.replaceChildren(...this.overview());
    else if (this.tab === "report") this.body.replaceChildren(this.report());
    else if (this.tab === "showback") this.body.replaceChildren(new Showback(this.openObject).element);
    else {
      this.table = new PagedTable(this.section, this.tab, words(this.tab), this.openObject);
      this.body.replaceChildren(this.table.element);
    }
  }

  overview() {
    const { headline = [], progress = [], series = [], note = "" } = this.data;
    const scale = moneyScale(this.section);
    const parts = [h("p", { class: "note" }, prose(note))];
    if (headline.length) parts.push(h("dl", { class: "sources" }, headline.map((item) => h("div", {},
      h("dt", {}, item.label),
      h("dd", {}, h("strong", {}, figure(item.value, item.unit, scale, item.label)), range(item, scale), h("span", { class: "from" }, prose(item.source)))))));
    else parts.push(h("p", { class: "empty" }, "No figures yet: the report is empty until the component has measured something."));
    if (progress.length) parts.push(h("h3", {}, "Under way"), h("div", { class: "progress-list" }, progress.map(progressBar)));
    if (series.length) parts.push(h("div", { class: "charts" }, series.map((item) => chart(item, scale))));
    return parts;
  }

  report() {
    const { report = {}, engine, sequence, generated_at: made, next_by: due, world, digest } = this.data;
    const facts = { Status: report.status, Problem: report.problem || "none", Engine: engine, Sequence: sequence,
      Written: made && time(made), "Next by": due && time(due), World: world === "sample" ? "the sample world" : world && "your own stores", Seal: digest };
    return h("div", {}, h("dl", { class: "facts" }, Object.entries(facts).filter(([, value]) => value !== undefined).map(([name, value]) =>
      h("div", {}, h("dt", {}, name), h("dd", {}, String(value))))),
    h("p", {}, h("a", { href: "/api/status" }, "The same as JSON")));
  }
}

const range = (item, scale) => (typeof item.low === "number" && typeof item.high === "number"
  ? h("span", { class: "range" }, `${figure(item.low, item.unit, scale)} to ${figure(item.high, item.unit, scale)}`) : null);

/** Who causes what bill: by prefix or by requester, asked for when it is opened. */
class Showback {
  constructor(openObject) {
    this.openObject = openObject;
    this.table = h("div");
    this.choices = ["prefix", "requester"].map((by) => h("button", { type: "button", class: "button", onclick: () => this.show(by) }, `By ${by}`));
    this.element = h("div", { class: "showback" }, h("div", { role: "group", "aria-label": "Share the bill out" }, this.choices), this.table);
    this.show("prefix");
  }

  show(by) {
    this.choices.forEach((button) => button.setAttribute("aria-pressed", String(button.textContent === `By ${by}`)));
    this.table.replaceChildren(new PagedTable("optimization", `showback_${by}`, `Showback by ${by}`, this.openObject).element);
  }
}

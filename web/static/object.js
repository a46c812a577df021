// One object: where it lies, why, what happened to it, what it costs and what comes next.

import { explain } from "./api.js";
import { actButton, actButtons } from "./acts.js";
import { bars, chart } from "./charts.js";
import { byId, h } from "./dom.js";
import { figure, time, unitOf, words } from "./format.js";
import { SECTIONS, isSample, mayAct } from "./state.js";
import { plainTable } from "./table.js";

const WEIGHTS = { frequency: 0.4, latency: 0.3, cost: 0.2, trend: 0.1 };
const DEEPEST = 4;

export async function openObject(key) {
  const dialog = byId("object");
  const body = h("div", { class: "panel-body", tabindex: "0" }, h("p", { class: "empty" }, "Asking every component …"));
  const acts = h("div", { class: "object-acts" }, ["pin", "unpin"].filter(mayAct).map((name) => actButton(name, { key }, () => openObject(key))));
  dialog.replaceChildren(
    h("header", { class: "panel-head" },
      h("div", {}, h("h2", { id: "object-title", class: "key" }, key), h("p", {}, isSample() ? "Object of the sample world" : "Object")),
      acts, h("button", { type: "button", class: "button", "aria-label": "Close object", onclick: () => dialog.close() }, "Close")), body);
  if (!dialog.open) dialog.showModal();
  try {
    body.replaceChildren(...parts(await explain(key), () => openObject(key)));
  } catch (error) {
    body.replaceChildren(h("p", { class: "empty" }, `Not available: ${error.message}`));
  }
}

function parts({ stages, facts }, again) {
  const sections = Object.entries(facts).map(([section, values]) => h("section", { class: "fact-section" },
    h("h3", {}, SECTIONS[section]?.title ?? words(section)), render(section, values, section, again, 0)));
  return [h("h3", {}, "The nine stages"), timeline(stages), ...sections];
}

function timeline(stages) {
  return h("ol", { class: "timeline" }, stages.map(({ stage, at, did, earlier = [] }) =>
    h("li", { "data-done": String(at !== null) }, h("strong", {}, words(stage)), h("span", { class: "when" }, at ? time(at) : "–"), h("p", {}, did),
      earlier.length ? h("details", {}, h("summary", {}, `${earlier.length} earlier`), h("ul", {}, earlier.map((one) => h("li", {}, `${time(one.at)}: ${one.did}`)))) : null)));
}

const isScalar = (value) => value === null || typeof value !== "object";
const isShares = (value) => Object.values(value).length > 0 && Object.values(value).every((item) => typeof item === "number" && item >= 0 && item <= 1);
const isPoints = (value) => value.length > 1 && value.every((item) => Array.isArray(item) && item.length === 2 && typeof item[0] === "number");

function render(name, value, section, again, depth) {
  if (isScalar(value)) return h("p", {}, figure(value, unitOf(name)));
  if (depth > DEEPEST) return h("pre", {}, JSON.stringify(value));
  if (Array.isArray(value)) return list(name, value, section, again);
  if (name === "factors" && isShares(value)) return bars(value, WEIGHTS);
  const plain = Object.entries(value).filter(([, item]) => isScalar(item));
  const deep = Object.entries(value).filter(([, item]) => !isScalar(item));
  return h("div", {},
    plain.length ? h("dl", { class: "facts" }, plain.map(([key, item]) => h("div", {}, h("dt", {}, words(key)), h("dd", {}, figure(item, unitOf(key)))))) : null,
    deep.map(([key, item]) => h("details", { open: depth < 2 }, h("summary", {}, words(key)), render(key, item, section, again, depth + 1))));
}

function list(name, values, section, again) {
  if (!values.length) return h("p", { class: "empty" }, "None.");
  if (isPoints(values)) return chart({ label: words(name), unit: unitOf(name), points: values });
  if (values.every((item) => !isScalar(item) && !Array.isArray(item))) {
    const acting = values.flatMap((row) => actButtons(section, row, again));
    return h("div", {}, plainTable(words(name), values), acting.length ? h("div", { class: "object-acts" }, acting) : null);
  }
  return h("p", {}, values.map((item) => (isScalar(item) ? figure(item, unitOf(name)) : JSON.stringify(item))).join(", "));
}

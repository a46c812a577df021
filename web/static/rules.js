// What is real and what is made up in the sample world, as the engine states it.

import { sampleRules } from "./api.js";
import { byId, h } from "./dom.js";
import { sentence } from "./format.js";

export async function openRules() {
  const dialog = byId("rules");
  const body = h("div", { class: "panel-body", tabindex: "0" }, h("p", { class: "empty" }, "Asking …"));
  dialog.replaceChildren(
    h("header", { class: "panel-head" },
      h("div", {}, h("h2", { id: "rules-title" }, "The sample world"), h("p", {}, "What is real in it, and by which rule the rest is made up")),
      h("button", { type: "button", class: "button", "aria-label": "Close the sample world's rules", onclick: () => dialog.close() }, "Close")), body);
  if (!dialog.open) dialog.showModal();
  try {
    const { rules } = await sampleRules();
    body.replaceChildren(h("dl", { class: "rules" }, rules.map(({ what, rule }) => h("div", {}, h("dt", {}, sentence(what)), h("dd", {}, rule)))));
  } catch (error) {
    body.replaceChildren(h("p", { class: "empty" }, `Not available: ${error.message}`));
  }
}

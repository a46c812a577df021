// What a person may order, always behind a question that says what will happen.

import { act, session } from "./api.js";
import { byId, h, say } from "./dom.js";
import { figure, unitOf, words } from "./format.js";
import { changed, mayAct, state } from "./state.js";

const SAYS = {
  approve: ["Approve", "The job starts: its bytes are copied, checked and then switched over."],
  undo: ["Undo", "Readers go back to where the bytes were before."],
  roll_back: ["Roll back", "The object is read from where it was before; the copy is removed."],
  cancel: ["Cancel", "The job ends; what it wrote is rolled back."],
  pause: ["Pause", "The job stops after its current part and keeps what it has."],
  resume: ["Resume", "The job goes on from its last checked part."],
  acknowledge: ["Acknowledge", "The alert stays listed as seen and stops escalating."],
  freeze: ["Freeze", "Every act on every store stops within 2 seconds and stays stopped over a restart."],
  unfreeze: ["Lift freeze", "The fabric acts again."],
  pin: ["Pin", "Placement leaves the object where it is."],
  unpin: ["Unpin", "Placement may move the object again."],
};

// What takes an act back: the act, and what it is about.
const UNDO = {
  freeze: ["unfreeze", ({ name }) => ({ name })],
  pin: ["unpin", ({ key }) => ({ key })],
  unpin: ["pin", ({ key }) => ({ key })],
  pause: ["resume", ({ id, key }) => ({ id, key })],
  resume: ["pause", ({ id, key }) => ({ id, key })],
  approve: ["cancel", ({ id, key }) => ({ id, key })],
};
const FACTS = ["key", "name", "title", "where", "state", "severity", "risk", "risk_reasons", "source", "target", "bytes", "cost_usd", "value", "threshold", "reason", "why"];

const BY_STATE = {
  migration: {
    PENDING: ["cancel"], AWAITING_APPROVAL: ["approve", "cancel"], VALIDATING: ["cancel"], IN_PROGRESS: ["pause", "cancel"],
    VERIFYING: ["pause", "cancel"], PAUSED: ["resume", "roll_back"], COMPLETED: ["undo"],
  },
  alerts: { FIRING: ["acknowledge"] },
};

/** Return the buttons of a row: what it names in `acts`, else what its state allows, as far as this person may. */
export function actButtons(section, row, done) {
  if (row.id === undefined) return [];
  const names = row.acts ?? row.may ?? BY_STATE[section]?.[String(row.state).toUpperCase()] ?? [];
  return names.filter(mayAct).map((name) => actButton(name, row, done));
}

export function actButton(name, subject, done) {
  const [label] = SAYS[name] ?? [words(name)];
  const about = subject.key ?? subject.id ?? subject.name;
  return h("button", { type: "button", class: "button small", "aria-label": about ? `${label} ${about}` : label, onclick: () => (name === "undo" ? confirmUndo(subject, done) : confirmAct(name, subject, done)) }, label);
}

/** Ask, then order. `fields`: inputs whose values go into the body. */
export function confirmAct(name, subject, done = () => {}, fields = []) {
  const [label, meaning] = SAYS[name] ?? [words(name), ""];
  const dialog = byId("confirm");
  const problem = h("p", { class: "problem", role: "alert" });
  const inputs = fields.map(({ name: id, label: text, value }) => ({ id, input: h("input", { id: `confirm-${id}`, value, required: true }), text }));
  const order = h("button", { type: "submit", class: "button primary" }, label);
  const facts = FACTS.filter((key) => subject[key] !== undefined && subject[key] !== null && subject[key] !== "" && subject[key].length !== 0).map((key) => [key, subject[key]]);
  dialog.replaceChildren(h("form", { method: "dialog", onsubmit: async (event) => {
    event.preventDefault();
    order.disabled = true;
    try {
      const typed = Object.fromEntries(inputs.map(({ id, input }) => [id, input.value]));
      const answer = await act(name, { ...bodyOf(subject), ...typed });
      dialog.close();
      sayDone(name, label, { ...bodyOf(subject), ...typed }, answer, done);
      await loadSession();
      done();
    } catch (error) {
      say(problem, error.message);
      order.disabled = false;
    }
  } },
  h("h2", { id: "confirm-title" }, `${label}?`), h("p", {}, meaning),
  facts.length ? h("dl", { class: "facts" }, facts.map(([key, value]) => h("div", {}, h("dt", {}, words(key)), h("dd", {}, Array.isArray(value) ? value.join("; ") : key === "value" || key === "threshold" ? figure(value, subject.unit) : figure(value, unitOf(key)))))) : null,
  inputs.map(({ input, text }) => h("label", { class: "field" }, text, input)), problem,
  h("div", { class: "confirm-acts" }, h("button", { type: "button", class: "button", onclick: () => dialog.close() }, "Leave it"), order)));
  dialog.showModal();
}

/** Ask for the quote of an undo first, show it, and order exactly what it says. */
export async function confirmUndo(subject, done = () => {}) {
  const dialog = byId("confirm");
  const problem = h("p", { class: "problem", role: "alert" });
  const leave = () => h("button", { type: "button", class: "button", onclick: () => dialog.close() }, "Leave it");
  let quote;
  try {
    quote = await act("undo_quote", { id: subject.id });
  } catch (error) {
    dialog.replaceChildren(h("h2", { id: "confirm-title" }, "Undo?"), problem, h("div", { class: "confirm-acts" }, leave()));
    say(problem, error.message);
    dialog.showModal();
    return;
  }
  const order = h("button", { type: "submit", class: "button primary" }, "Undo");
  const boxes = Object.entries(quote.needs).map(([name, why]) => ({ name, why, input: h("input", { type: "checkbox", id: `allow-${name}`, required: true }) }));
  const facts = { undo: subject.key ?? `${quote.kind} ${quote.about}`, jobs: figure(quote.jobs), costs: figure(quote.usd, "usd"), "bytes to move again": figure(quote.bytes, "bytes"),
    "takes at most": figure(quote.seconds, "seconds"), "will not come back": quote.lost.join("; ") || "nothing" };
  dialog.replaceChildren(h("form", { method: "dialog", onsubmit: async (event) => {
    event.preventDefault();
    order.disabled = true;
    try {
      const answer = await act("undo", { id: subject.id, sha256: quote.sha256, allow: boxes.filter(({ input }) => input.checked).map(({ name }) => name) });
      if (answer.failed.length) throw new Error(`${answer.failed.length} of ${answer.jobs} jobs stay as they are: ${answer.failed[0].why}`);
      dialog.close();
      sayDone("undo", "Undo", { id: subject.id, key: subject.key ?? `${answer.jobs} jobs` }, { cost_usd: answer.usd }, done);
      done();
    } catch (error) {
      say(problem, error.message);
      order.disabled = false;
    }
  } },
  h("h2", { id: "confirm-title" }, "Undo?"), h("p", {}, SAYS.undo[1]),
  h("dl", { class: "facts" }, Object.entries(facts).map(([name, value]) => h("div", {}, h("dt", {}, words(name)), h("dd", {}, value)))),
  boxes.map(({ name, why, input }) => h("label", { class: "field" }, input, ` Allow ${words(name).toLowerCase()}: ${why}`)), problem,
  h("div", { class: "confirm-acts" }, leave(), order)));
  dialog.showModal();
}

/** Say what came of an act, what it cost, and offer to take it back. */
function sayDone(name, label, subject, answer, done) {
  const box = byId("done");
  const cost = typeof answer.cost_usd === "number" && answer.cost_usd > 0 ? ` It costs ${figure(answer.cost_usd, "usd")} once.` : "";
  const became = answer.state ? ` is ${String(answer.state).toLowerCase().replaceAll("_", " ")}` : "";
  const [back, about] = UNDO[name] ?? [];
  const undo = back && mayAct(back) && h("button", { type: "button", class: "button small", onclick: () => { box.hidden = true; confirmAct(back, about(subject), done); } }, "Undo");
  box.replaceChildren(h("span", {}, `${label}: done. ${subject.key ?? answer.key ?? subject.name ?? "It"}${became}.${cost}`), undo || "",
    h("button", { type: "button", class: "button small", onclick: () => { box.hidden = true; } }, "Dismiss"));
  box.hidden = false;
}

const bodyOf = ({ id, key, name }) => Object.fromEntries(Object.entries({ id, key, name }).filter(([, value]) => value !== undefined));

/** Learn who is looking and which freezes are in force. */
export async function loadSession() {
  try {
    state.session = await session();
  } catch {
    state.session = { acts: [], freezes: [] };
  }
  changed([]);
}

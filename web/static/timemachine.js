// The time machine's page: ask, watch the replay, then read what came of it. The address names the replay.

import { replay, replays } from "./api.js";
import { byId, h } from "./dom.js";
import { ReplayForm } from "./replayform.js";
import { drawProgress } from "./replayprogress.js";
import { drawResult } from "./replayresult.js";
import { openReceipt } from "./receipt.js";

const LOOK_MS = 400;
const PATH = "/time-machine";

const main = () => byId("machine");
let turn = 0; // what is drawn by an earlier turn comes too late

function show(...parts) {
  main().replaceChildren(...parts);
}

/** Show the form and what was replayed before. */
async function ask(problem = "") {
  const mine = ++turn;
  byId("again").hidden = true;
  try {
    const overview = await replays();
    if (mine !== turn) return;
    if (overview.running && !problem) return void go(overview.running, true);
    show(lead(), new ReplayForm(overview, (id) => go(id), problem).element, recent(overview.results));
  } catch (error) {
    if (mine === turn) show(lead(), sorry(error.message));
  }
}

const lead = () => h("section", { class: "lead" }, h("h2", {}, "What would it have cost?"),
  h("p", {}, "Drop in an access log and read what every known policy would have cost on the same reads, what the best possible placement would have cost, and what this fabric would have done, object by object."));

const sorry = (message) => h("section", { class: "sheet" }, h("p", { class: "problem", role: "alert" }, message), h("p", {}, h("a", { class: "button", href: PATH }, "Start again")));

function recent(results) {
  if (!results.length) return "";
  return h("section", { class: "sheet" }, h("h2", {}, "Replayed before"), h("ul", { class: "recent" }, results.map((one) =>
    h("li", {}, h("a", { href: `${PATH}/${one.id}` }, h("strong", {}, title(one)), h("span", {}, `${one.asked.provider}, ${new Date(one.begun).toLocaleString("en-GB")}`))))));
}

export function title({ files, asked }) {
  if (asked.history) return "The fabric's own history";
  if (!files.length) return `Store ${asked.store}`;
  const named = files.filter(({ role }) => role === "accesses").concat(files).slice(0, 1).map(({ name }) => name);
  return files.length > 1 ? `${named} and ${files.length - 1} more` : String(named);
}

/** Follow a replay until it is done. */
async function go(id, replacing = false) {
  const mine = ++turn;
  if (location.pathname !== `${PATH}/${id}`) history[replacing ? "replaceState" : "pushState"](null, "", `${PATH}/${id}`);
  byId("again").hidden = false;
  let view = null;
  for (;;) {
    let found;
    try {
      found = await replay(id);
    } catch (error) {
      if (mine === turn) show(sorry(error.message));
      return;
    }
    if (mine !== turn) return;
    if (found.state === "done") return void done(id, found);
    if (found.state === "failed") return void failed(found.problem.detail ?? found.problem.title);
    if (found.state === "cancelled") return void failed("The replay was cancelled. Nothing of it is kept.");
    if (!view) show((view = drawProgress(id, title(found))).element);
    view.draw(found.progress);
    await new Promise((later) => setTimeout(later, LOOK_MS));
  }
}

function failed(message) {
  history.replaceState(null, "", PATH);
  ask(message);
}

function done(id, found) {
  if (!found.document) return void failed("The result is not there any more.");
  show(...drawResult(id, found, title(found)));
  main().focus({ preventScroll: true });
  fromAddress();
}

function start() {
  const id = location.pathname.slice(PATH.length + 1);
  if (id) go(id);
  else ask();
}

function fromAddress() {
  const [kind, number] = location.hash.slice(1).split("/");
  const id = location.pathname.slice(PATH.length + 1);
  if (kind === "object" && id && /^\d+$/.test(number ?? "")) openReceipt(id, number);
}

addEventListener("popstate", () => (location.hash ? fromAddress() : start()));
start();

// Starts the page: cards, the live socket, and what lies behind the header's buttons.

import { confirmAct, loadSession } from "./acts.js";
import { buildCards, drawAges, drawCards } from "./cards.js";
import { byId, h, say } from "./dom.js";
import { time, whole } from "./format.js";
import { Live } from "./live.js";
import { openObject } from "./object.js";
import { openPanel } from "./panel.js";
import { openRules } from "./rules.js";
import { SECTIONS, changed, isSample, mayAct, state, take, takeAll, watch } from "./state.js";

const CONNECTION = { live: "live", "not-live": "not live: fetching", off: "not live: the fabric does not answer" };
const AGE_MS = 1000;

const open = (section, tab = null) => openPanel(section, openObject, tab);

function drawHeader() {
  const sample = isSample();
  byId("world").hidden = !Object.values(state.status).some((data) => data.world);
  say(byId("world"), sample ? "Sample world" : "Your own stores");
  byId("world").dataset.world = sample ? "sample" : "own";
  byId("world").disabled = !sample;
  byId("scale-label").hidden = !sample;
  drawBell(state.status.alerts ?? {});
  const canFreeze = mayAct("freeze");
  byId("freeze").hidden = !canFreeze;
  byId("sign-in").hidden = !state.session.engine || state.session.name !== null;
  drawBanners();
}

/** Show the freezes in force: the report knows of one made elsewhere at once, the session of one before any report. */
function drawBanners() {
  const freezes = state.status.consistency?.freezes ?? state.session.freezes;
  const shown = JSON.stringify([freezes, mayAct("unfreeze")]);
  if (byId("banners").dataset.shown === shown) return;
  byId("banners").dataset.shown = shown;
  byId("banners").replaceChildren(...freezes.map(freezeBanner));
}

function drawBell({ total_alerts: total, critical_alerts: critical }) {
  const known = typeof total === "number";
  say(byId("bell-count"), known ? whole(total) : "–");
  byId("bell").dataset.level = critical ? "critical" : total ? "some" : "none";
  byId("bell").setAttribute("aria-label", known ? `Alerts: ${total}, of which ${critical} critical` : "Alerts: not known yet");
}

function freezeBanner(freeze) {
  const lift = mayAct("unfreeze") && h("button", { type: "button", class: "button small", onclick: () => confirmAct("unfreeze", { name: freeze.name }) }, "Lift freeze");
  return h("p", { class: "banner" }, h("span", {}, `Frozen by ${freeze.who} since ${time(freeze.at)} as “${freeze.name}”${freeze.why ? `: ${freeze.why}` : ""}. Nothing moves.`), lift);
}

function askFreeze() {
  confirmAct("freeze", {}, () => {}, [{ name: "name", label: "Name that lifts it", value: "by-hand" }, { name: "why", label: "Why", value: "looking into something" }]);
}

function openAlerts() {
  const tables = state.status.alerts?.tables ?? {};
  open("alerts", Object.keys(tables)[0] ?? null);
}

function openFromAddress() {
  const [kind, ...rest] = location.hash.slice(1).split("/");
  if (kind === "sample") openRules();
  if (kind === "card" && SECTIONS[rest[0]]) open(rest[0], rest[1]);
  if (kind === "object" && rest.length) openObject(decodeURIComponent(rest.join("/")));
}

const live = new Live({
  state: (name) => {
    say(byId("connection"), CONNECTION[name]);
    byId("connection").dataset.state = name;
  },
  snapshot: ({ status }) => {
    const first = !Object.keys(state.status).length;
    takeAll(status);
    changed();
    loadSession();
    if (first) openFromAddress();
  },
  change: ({ section, data }) => {
    take(section, data);
    changed([section]);
  },
});

buildCards(open);
watch((sections) => {
  drawCards(sections);
  drawHeader();
});
setInterval(drawAges, AGE_MS);
byId("bell").addEventListener("click", openAlerts);
byId("world").addEventListener("click", openRules);
byId("freeze").addEventListener("click", askFreeze);
byId("scale").addEventListener("change", (event) => {
  state.scale = Number(event.target.value);
  changed();
});
addEventListener("hashchange", openFromAddress);
live.connect();

// A replay under way: rows read, the policy at work, the rate and the time left, and a way out.

import { endReplay } from "./api.js";
import { h, say } from "./dom.js";
import { duration, whole } from "./format.js";
import { policyTitle } from "./policies.js";

const STEPS = [["reading", "Reading"], ["days", "Sorting by day"], ["policies", "Policies"], ["receipts", "Receipts"]];

export function drawProgress(id, title) {
  const problem = h("p", { class: "problem", role: "alert" });
  const steps = STEPS.map(([, label]) => ({ text: h("span", {}), row: h("li", { "data-step": "later" }, h("strong", {}, label)) }));
  steps.forEach(({ row, text }) => row.append(text));
  const bar = h("progress", { max: 1, "aria-label": "Replay" });
  const text = h("span", { class: "progress-text", role: "status" }, "starting");
  const stop = h("button", { type: "button", class: "button", onclick: async () => {
    stop.disabled = true;
    try {
      await endReplay(id);
    } catch (error) {
      say(problem, error.message);
      stop.disabled = false;
    }
  } }, "Cancel");
  const element = h("section", { class: "sheet", "aria-label": "Replay under way" }, h("h2", { class: "key-line" }, `Replaying ${title}`),
    h("ul", { class: "steps" }, steps.map(({ row }) => row)), h("div", { class: "progress" }, bar, text), problem, h("div", { class: "go" }, stop));
  const draw = (progress) => {
    const at = STEPS.findIndex(([name]) => name === progress.phase);
    steps.forEach(({ row, text: said }, i) => {
      row.dataset.step = i < at ? "done" : i === at ? "now" : "later";
      say(said, i <= at ? detail(STEPS[i][0], progress) : "");
    });
    const share = shareOf(progress);
    if (share === null) bar.removeAttribute("value");
    else bar.value = share;
    const left = typeof progress.eta_seconds === "number" ? ` · about ${duration(Math.ceil(progress.eta_seconds))} left in this step` : "";
    say(text, `${duration(Math.floor(progress.seconds))} so far${left}`);
  };
  return { element, draw };
}

function shareOf({ phase, rows, rows_all: all, policies_done: done, policies_all: count }) {
  if (phase === "reading") return all ? Math.min(1, rows / all) : null;
  if (phase === "policies") return count ? done / count : null;
  return null;
}

function detail(step, progress) {
  if (step === "reading") {
    const all = progress.rows_all ? ` of ${whole(progress.rows_all)}` : "";
    const rate = progress.rows_per_second ? `, ${whole(progress.rows_per_second)} a second` : "";
    return progress.rows ? `${whole(progress.rows)}${all} rows${rate}` : "opening the files";
  }
  if (step === "policies") {
    const now = progress.under_way.map(policyTitle).join(" and ");
    return `${progress.policies_done} of ${progress.policies_all}${now ? `: ${now}` : ""}`;
  }
  return "";
}

// What to replay: files that are dropped or chosen, or the fabric's own history; whose prices; which classes.

import { dropUpload, sendFile, startReplay } from "./api.js";
import { h, say } from "./dom.js";
import { duration, size, whole } from "./format.js";
import { PROVIDERS, className } from "./policies.js";

const ROLES = [
  ["accesses", "Access logs", "S3, CloudTrail, nginx, Apache, GCS, or a Parquet trace; plain or gzip"],
  ["inventory", "Inventory", "optional: sizes and classes of what there is"],
  ["bill", "Invoice", "optional: AWS CUR or FOCUS, laid beside the replay"],
  ["ranges", "Address ranges", "optional: the provider's published file (JSON), tells who pays egress"],
];
const NAMES_SHOWN = 4;
const MANAGED_OFF = new Set(["smart_tier"]); // its fee is not verified

export class ReplayForm {
  constructor(overview, started, problem = "") {
    Object.assign(this, { overview, started, files: { accesses: [], inventory: [], bill: [], ranges: [] } });
    this.problem = h("p", { class: "problem", role: "alert" }, problem);
    this.sent = h("div", { class: "progress", hidden: true }, this.sentLabel = h("span", { class: "progress-label" }, "Sending"),
      this.bar = h("progress", { max: 1, value: 0, "aria-label": "Sending the files" }), this.sentText = h("span", { class: "progress-text", role: "status" }));
    this.provider = h("select", { id: "provider", onchange: () => this.drawClasses() }, Object.keys(overview.providers).map((name) => h("option", { value: name }, PROVIDERS[name] ?? name)));
    this.classes = h("div", { class: "checks" });
    this.stretch = h("input", { id: "stretch", class: "narrow", type: "number", min: "0.01", step: "any", value: "1" });
    this.horizon = h("input", { id: "horizon", class: "narrow", type: "number", min: "1", step: "1", placeholder: "to the end" });
    this.store = h("select", { id: "store", onchange: () => this.drawOwn() }, h("option", { value: "" }, "the file above, or none"), (overview.stores ?? []).map((name) => h("option", { value: name }, `store ${name}`)));
    this.own = h("input", { type: "checkbox", onchange: () => this.drawOwn() });
    this.go = h("button", { type: "submit", class: "button primary" }, "Replay");
    this.stop = h("button", { type: "button", class: "button", hidden: true, onclick: () => this.control?.abort() }, "Cancel");
    this.drops = h("div", { class: "drops" }, ROLES.map((role) => this.drop(...role)));
    this.element = h("form", { class: "sheet", "aria-label": "What to replay", onsubmit: (event) => this.submit(event) },
      this.drops,
      overview.history ? h("div", { class: "checks" }, h("label", { class: "check" }, this.own, "Replay what this fabric has recorded itself")) : null,
      h("div", { class: "choices" }, overview.stores?.length ? h("label", { class: "field", for: "store" }, "Inventory", this.store) : null,
        h("label", { class: "field", for: "provider" }, "Prices of", this.provider),
        h("fieldset", {}, h("legend", {}, "Classes to choose from"), this.classes)),
      h("details", {}, h("summary", {}, "Time"), h("div", { class: "choices" },
        h("label", { class: "field", for: "stretch" }, "Times multiplied by", this.stretch),
        h("label", { class: "field", for: "horizon" }, "Days billed", this.horizon))),
      this.problem, this.sent, h("div", { class: "go" }, this.go, this.stop, this.may()));
    this.drawClasses();
  }

  may() {
    const { may_start: may, bytes_most: most } = this.overview;
    this.go.disabled = !may;
    if (may) return h("p", {}, `Files go to this fabric's data folder, up to ${size(most)}, and are removed when the replay ends.`);
    return h("p", {}, "Looking is free; a replay needs a token. ", h("a", { href: "/login" }, "Sign in"), " to start one.");
  }

  drop(role, label, what) {
    const names = h("ul", {});
    const input = h("input", { type: "file", multiple: true, "aria-label": label, name: role, onchange: () => this.take(role, input, [...input.files], box, names) });
    const box = h("label", { class: "drop", "data-full": "false",
      ondragover: (event) => { event.preventDefault(); box.dataset.over = "true"; },
      ondragleave: () => { box.dataset.over = "false"; },
      ondrop: (event) => { event.preventDefault(); box.dataset.over = "false"; this.take(role, input, [...event.dataTransfer.files], box, names); } },
    h("strong", {}, label), h("span", {}, what), names, input);
    return box;
  }

  take(role, input, files, box, names) {
    this.files[role] = files;
    box.dataset.full = String(files.length > 0);
    const more = files.length - NAMES_SHOWN;
    names.replaceChildren(...files.slice(0, NAMES_SHOWN).map((file) => h("li", {}, `${file.name}, ${size(file.size)}`)), ...(more > 0 ? [h("li", {}, `and ${whole(more)} more`)] : []));
    say(this.problem, "");
  }

  drawOwn() {
    this.drops.children[0].hidden = this.own.checked;
    this.drops.children[1].hidden = this.store.value !== "";
  }

  drawClasses() {
    const known = this.overview.providers[this.provider.value];
    this.classes.replaceChildren(...known.plain.concat(known.managed).map((name) => h("label", { class: "check" },
      h("input", { type: "checkbox", value: name, checked: known.chosen.includes(name) && !MANAGED_OFF.has(name) }), className(name))));
  }

  question(upload) {
    const days = this.horizon.value.trim();
    return { upload, history: this.own.checked, store: this.store.value, provider: this.provider.value,
      classes: [...this.classes.querySelectorAll("input:checked")].map((input) => input.value),
      stretch: Number(this.stretch.value || 1), horizon_days: days ? Number(days) : null };
  }

  async submit(event) {
    event.preventDefault();
    say(this.problem, "");
    const chosen = this.chosen();
    if (!chosen.length && !this.own.checked && !this.store.value) return void say(this.problem, "Choose an access log or an inventory first.");
    this.busy(true);
    const upload = chosen.length ? crypto.randomUUID().replaceAll("-", "") : "";
    try {
      await this.send(upload, chosen);
      const { id } = await startReplay(this.question(upload));
      this.started(id);
    } catch (error) {
      if (upload) dropUpload(upload).catch(() => {});
      say(this.problem, error.name === "AbortError" ? "Cancelled: what was sent is removed." : error.message);
      this.busy(false);
    }
  }

  chosen() {
    return Object.entries(this.files).flatMap(([role, files]) => ((role === "accesses" && this.own.checked) || (role === "inventory" && this.store.value) ? [] : files.map((file) => [role, file])));
  }

  busy(is) {
    this.go.disabled = is;
    this.stop.hidden = !is;
    this.sent.hidden = !is;
  }

  async send(upload, chosen) {
    this.control = new AbortController();
    const all = chosen.reduce((sum, [, file]) => sum + file.size, 0);
    const begun = performance.now();
    let before = 0;
    for (const [role, file] of chosen) {
      say(this.sentLabel, `Sending ${file.name}`);
      await sendFile(upload, role, file, (bytes) => this.drawSent(before + bytes, all, begun), this.control.signal);
      before += file.size;
    }
  }

  drawSent(sent, all, begun) {
    const seconds = (performance.now() - begun) / 1000;
    const rate = seconds > 0 ? sent / seconds : 0;
    this.bar.value = all ? Math.min(1, sent / all) : 1;
    const left = rate > 0 ? ` · ${size(rate)}/s · ${duration(Math.max(0, (all - sent) / rate))} left` : "";
    say(this.sentText, `${size(Math.min(sent, all))} of ${size(all)}${left}`);
  }
}

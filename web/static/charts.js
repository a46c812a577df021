// Lines as SVG: a small one for a card, a large one with axes that can be read point by point.

import { h, s, say } from "./dom.js";
import { clockTime, figure, sentence, time } from "./format.js";

const known = (points) => points.filter(([, value]) => typeof value === "number" && Number.isFinite(value));

function frame(points) {
  const times = points.map(([at]) => at);
  const values = points.map(([, value]) => value);
  const [left, right] = [Math.min(...times), Math.max(...times)];
  let [low, high] = [Math.min(0, ...values), Math.max(...values)];
  if (high === low) high = low + 1;
  return { left, right: right === left ? left + 1 : right, low, high };
}

function path(points, { left, right, low, high }, width, height, pad = 0) {
  const x = (at) => ((at - left) / (right - left)) * width;
  const y = (value) => pad + (1 - (value - low) / (high - low)) * (height - 2 * pad);
  return points.map(([at, value], i) => `${i ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`).join("");
}

/** Return a sparkline without axes; decoration, its figures are on the card. */
export function sparkline(series) {
  const points = known(series.points);
  if (points.length < 2) return null;
  const line = path(points, frame(points), 200, 44, 3);
  return s("svg", { class: "spark", viewBox: "0 0 200 44", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("path", { class: "area", d: `${line}L200 44L0 44Z` }),
    s("path", { class: "line", d: line }));
}

/** Return a chart of one series, with a caption that names the point under the pointer or the arrow keys. */
export function chart(series, scale = 1) {
  const points = known(series.points);
  const caption = h("figcaption", {}, series.label);
  if (points.length < 2) return h("figure", { class: "chart" }, caption, h("p", { class: "empty" }, "Not enough points yet."));
  const [width, height] = [640, 180];
  const box = frame(points);
  const line = path(points, box, width, height, 8);
  const show = (value) => figure(value, series.unit, scale, series.label);
  const [lowest, highest, last] = [Math.min(...points.map((p) => p[1])), Math.max(...points.map((p) => p[1])), points.at(-1)];
  const summary = `${series.label}: from ${show(lowest)} to ${show(highest)}, last ${show(last[1])}`;
  const cross = s("path", { class: "cross", d: "" });
  const drawing = s("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    [0.25, 0.5, 0.75].map((share) => s("path", { class: "rule", d: `M0 ${height * share}H${width}` })),
    s("path", { class: "area", d: `${line}L${width} ${height}L0 ${height}Z` }),
    s("path", { class: "line", d: line }), cross);
  const reading = h("p", { class: "reading", "aria-live": "polite" }, `last: ${show(last[1])}`);
  let chosen = points.length - 1;
  const choose = (index) => {
    chosen = Math.max(0, Math.min(points.length - 1, index));
    const [at, value] = points[chosen];
    const x = ((at - box.left) / (box.right - box.left)) * width;
    cross.setAttribute("d", `M${x} 0V${height}`);
    say(reading, `${time(at)}: ${show(value)}`);
  };
  const plot = h("div", { class: "plot", tabindex: "0", role: "img", "aria-label": summary,
    onpointermove: (event) => {
      const bounds = plot.getBoundingClientRect();
      const at = box.left + ((event.clientX - bounds.left) / bounds.width) * (box.right - box.left);
      let best = 0;
      points.forEach(([when], i) => { if (Math.abs(when - at) < Math.abs(points[best][0] - at)) best = i; });
      choose(best);
    },
    onkeydown: (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      choose(chosen + step);
    } }, drawing);
  return h("figure", { class: "chart" },
    h("div", { class: "chart-head" }, caption, reading),
    h("div", { class: "chart-body" },
      h("div", { class: "y-axis", "aria-hidden": "true" }, h("span", {}, show(box.high)), h("span", {}, show(box.low))), plot),
    h("div", { class: "x-axis", "aria-hidden": "true" }, h("span", {}, axis(box.left, box)), h("span", {}, axis(box.right, box))));
}

const axis = (at, box) => (box.right - box.left > 86400 ? time(at).split(",")[0] : clockTime(at));

/** Return bars of shares between 0 and 1, such as the four factors of a decision. */
export function bars(factors, weights = {}) {
  return h("ul", { class: "bars" }, Object.entries(factors).map(([name, value]) => {
    const share = typeof value === "number" ? Math.max(0, Math.min(1, value)) : 0;
    const text = typeof value === "number" ? value.toFixed(3) : "unknown";
    const weight = weights[name] === undefined ? "" : ` × ${weights[name]}`;
    return h("li", {}, h("span", {}, sentence(name) + weight),
      h("meter", { min: 0, max: 1, value: share, "aria-label": name }), h("strong", {}, text));
  }));
}

// The page's memory: the seven sections, who is looking, and how many objects money is shown for.

export const SECTIONS = {
  optimization: { title: "Placement", number: 1, asks: "Where should each object lie?" },
  migration: { title: "Migration", number: 2, asks: "What is moving, and is it safe?" },
  streaming: { title: "Streaming", number: 3, asks: "What is being read right now?" },
  ml_predictions: { title: "Prediction", number: 4, asks: "What will be read next week?" },
  consistency: { title: "Consistency", number: 5, asks: "Are all copies there, and alike?" },
  security: { title: "Security", number: 6, asks: "Who may see what, how is it kept?" },
  alerts: { title: "Alerts", number: 7, asks: "What needs a person?" },
};

export const state = { status: {}, session: { acts: [], freezes: [] }, scale: 1 };

const listeners = new Set();

/** Call `listener(sections)` after each change; returns what ends it. */
export function watch(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Tell every listener that these sections look different now. */
export function changed(sections = Object.keys(SECTIONS)) {
  for (const listener of [...listeners]) listener(sections);
}

export function take(section, data) {
  const before = state.status[section];
  if (before && data.report?.status === "fresh" && before.sequence > data.sequence && before.engine === data.engine) return;
  state.status[section] = { ...data, received: performance.now() };
}

export function takeAll(status) {
  for (const [section, data] of Object.entries(status)) {
    delete state.status[section];
    take(section, data);
  }
}

/** Return a section's age in seconds, by this page's clock since it came; null when unknown. */
export function ageOf(data) {
  const age = data?.report?.age_seconds;
  return age === null || age === undefined ? null : age + (performance.now() - data.received) / 1000;
}

/** Say whether a section's next report is overdue. Durations only: the two clocks need not agree. */
export function isStale(data) {
  if (!data?.generated_at) return false;
  const allowed = (Date.parse(data.next_by) - Date.parse(data.generated_at)) / 1000;
  return data.report.status === "stale" || ageOf(data) > allowed;
}

export const isSample = () => Object.values(state.status).some((data) => data.world === "sample");

export const moneyScale = (section) => (isSample() && section !== "alerts" ? state.scale : 1);

export const mayAct = (name) => state.session.acts.includes(name);

// Asks the REST side; every failure is an Error whose message a person can use.

async function answer(response) {
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  throw new Error(body.detail || body.title || `the server answered ${response.status}`);
}

async function ask(path, options = {}) {
  try {
    return await answer(await fetch(path, { cache: "no-cache", ...options }));
  } catch (error) {
    if (error instanceof TypeError) throw new Error("the fabric does not answer; is it running?");
    throw error;
  }
}

export const session = () => ask("/api/session");

export const sampleRules = () => ask("/api/sample");

export function page(section, kind, { search = "", cursor = "", limit = 100 }) {
  const query = new URLSearchParams({ search, cursor, limit });
  return ask(`/api/pages/${encodeURIComponent(section)}/${encodeURIComponent(kind)}?${query}`);
}

export const explain = (key) => ask(`/api/explain/${key.split("/").map(encodeURIComponent).join("/")}`);

export const act = (name, body) =>
  ask(`/api/acts/${encodeURIComponent(name)}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });

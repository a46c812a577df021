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

const post = (body) => ({ method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

export const replays = () => ask("/api/replays");

export const startReplay = (question) => ask("/api/replays", post(question));

export const replay = (id) => ask(`/api/replays/${encodeURIComponent(id)}`);

export const endReplay = (id) => ask(`/api/replays/${encodeURIComponent(id)}`, { method: "DELETE" });

export function replayObjects(id, { search = "", cursor = "", limit = 100, sort = "" }) {
  return ask(`/api/replays/${encodeURIComponent(id)}/objects?${new URLSearchParams({ search, cursor, limit, sort })}`);
}

export const replayReceipt = (id, number) => ask(`/api/replays/${encodeURIComponent(id)}/objects/${number}`);

export const dropUpload = (upload) => ask(`/api/replays/uploads/${upload}`, { method: "DELETE" });

/** Send one file; `told(bytes)` hears how much has left. `signal` ends it. Fetch says nothing of what it sends. */
export function sendFile(upload, role, file, told, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", `/api/replays/uploads/${upload}/${role}/${encodeURIComponent(file.name)}`);
    request.upload.onprogress = (event) => told(event.loaded);
    request.onload = () => {
      const body = readJson(request.responseText);
      if (request.status < 300) resolve(body);
      else reject(new Error(body.detail || body.title || `the server answered ${request.status}`));
    };
    request.onerror = () => reject(new Error("the fabric stopped listening; is it running?"));
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

function readJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}

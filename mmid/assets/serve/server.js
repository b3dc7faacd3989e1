// Asks the server, and listens to what goes on there.

const KEY = "mmid-token";

/** The token that the address carried, which then goes from the address bar. */
function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(KEY, given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem(KEY);
}

const token = takeToken();
const headers = token ? { Authorization: `Bearer ${token}` } : {};
const GONE = "mmid does not answer; is mmid serve still running?";

/** What the server takes, as it says itself; refused here, as what is not sent is not refused midway. */
export const limits = { bytes: Infinity };

/** Send a request; return the answer, or throw an error whose message is a line for people. */
export async function ask(path, { method = "GET", json } = {}) {
  const sent = json === undefined ? {} : { body: JSON.stringify(json) };
  const type = json === undefined ? {} : { "Content-Type": "application/json" };
  let answer;
  try {
    answer = await fetch(path, { method, headers: { ...headers, ...type }, ...sent });
  } catch {
    throw new Error(GONE);
  }
  const said = await answer.json().catch(() => ({ error: GONE }));
  if (!answer.ok) throw new Error(said.error ?? GONE);
  return said;
}

/** The address of a path with parameters. */
export function address(path, given) {
  return `${path}?${new URLSearchParams(given)}`;
}

function parseEvents(text) {
  return text
    .split("\n\n")
    .filter((one) => one.startsWith("event: "))
    .map((one) => {
      const [name, ...data] = one.split("\n");
      return [name.slice(7), JSON.parse(data.join("\n").slice(6))];
    });
}

/**
 * Send a recording. Calls `sent(share)` while it goes out and `received(name, value)` for every event
 * that comes back; returns the answer, JSON, or a Blob where `type` says so.
 */
export function upload(path, file, { signal, sent, received, type = "" }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    let read = 0;
    request.open("POST", path);
    request.responseType = type;
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", ({ loaded, total }) => sent?.(loaded / total));
    request.upload.addEventListener("load", () => sent?.(1));
    request.addEventListener("progress", () => {
      if (!received || request.status !== 200) return;
      const end = request.responseText.lastIndexOf("\n\n") + 2;
      if (end <= read) return;
      for (const [name, value] of parseEvents(request.responseText.slice(read, end))) received(name, value);
      read = end;
    });
    request.addEventListener("load", async () => {
      if (request.status === 200 && type) return resolve(request.response);
      if (request.status === 200 && received) return resolve(null);
      const text = type ? await request.response.text() : request.responseText;
      const said = parseJson(text);
      if (request.status === 200 && said) resolve(said);
      else reject(new Error(said?.error ?? GONE));
    });
    request.addEventListener("error", () => reject(new Error(GONE)));
    request.addEventListener("abort", () => reject(new DOMException("Cancelled", "AbortError")));
    signal?.addEventListener("abort", () => request.abort());
    if (signal?.aborted) reject(new DOMException("Cancelled", "AbortError"));
    else request.send(file);
  });
}

function parseJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

const AGAIN = 2000; // milliseconds until a server that is gone is called again

/** Call `changed(state)` whenever something changes in the server, and `changed(null)` if it is gone. */
export async function watch(changed) {
  for (;;) {
    try {
      const answer = await fetch("/events", { headers });
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      if (!answer.ok) throw new Error(answer.status === 401 ? "token" : GONE);
      for (let text = ""; ; ) {
        const { value, done } = await reader.read();
        if (done) break;
        text += value;
        const end = text.lastIndexOf("\n\n") + 2;
        for (const [, state] of parseEvents(text.slice(0, end))) {
          limits.bytes = state.largest;
          changed(state);
        }
        text = text.slice(end);
      }
      changed(null);
    } catch (error) {
      changed(null, error.message === "token");
    }
    await new Promise((wake) => setTimeout(wake, AGAIN));
  }
}

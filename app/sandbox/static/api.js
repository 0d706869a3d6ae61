// The sandbox's HTTP API.

export class Refused extends Error {
  constructor(status, code, detail) { super(detail || code); this.status = status; this.code = code; }
}
export class Offline extends Error {}

async function ask(method, path, body, type = "application/json") {
  let response;
  try {
    response = await fetch(`api/sessions${path}`, {
      method,
      headers: body === undefined ? {} : { "content-type": type },
      body: body === undefined || type !== "application/json" ? body : JSON.stringify(body),
    });
  } catch (error) {
    throw new Offline(String(error));
  }
  if (response.status >= 502) throw new Offline(`HTTP ${response.status}`);
  const document = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, document.code ?? `http_${response.status}`, document.detail);
  return document;
}

export const api = {
  begin: (before) => ask("POST", "", before ? { instead_of: before } : {}),
  world: (id) => ask("GET", `/${id}`),
  troubles: (id, troubles) => ask("PUT", `/${id}/troubles`, troubles),
  say: (id, said) => ask("POST", `/${id}/messages`, said),
  order: (id, seat) => ask("POST", `/${id}/orders`, seat),
  upload: (id, file) => ask("POST", `/${id}/images`, file, file.type || "application/octet-stream"),
  journey: (id, message) => ask("GET", `/${id}/messages/${encodeURIComponent(message)}/journey`),
  events: (id, after) => new EventSource(`api/sessions/${id}/events?after=${after}`),
};

// Copyright 2026 The Shoplens authors
// SPDX-License-Identifier: AGPL-3.0-only

// Requests to the service: the browser adds the key, this adds what shows that they are this page's own.

let token = "";

export class Problem extends Error {
  constructor({ detail = "The service can't be reached.", code = "" }, status) {
    super(detail);
    this.code = code;
    this.status = status;
  }
}

/** Return who is signed in; raises a Problem of status 401 or 403 where nobody is. */
export async function session() {
  const found = await ask("session");
  token = found.csrf;
  return found;
}

export async function enter(key) {
  const body = JSON.stringify({ key });
  await ask("session", { method: "POST", headers: { "Content-Type": "application/json" }, body });
  return session();
}

export const leave = () => ask("session", { method: "DELETE" });
export const get = (path) => ask(path);

export const why = (photo, product, asked) => send("why", photo, asked, "product_id", product);
export const compare = (photo, model, asked) => send("compare", photo, asked, "model", model);

function send(path, photo, asked, name, value) {
  const body = new FormData();
  body.append("photo", photo, "photo");
  const query = new URLSearchParams(asked);
  query.set(name, value);
  return ask(`${path}?${query}`, { method: "POST", body });
}

async function ask(path, { headers = {}, ...options } = {}) {
  const answer = await fetch(`admin/${path}`, { ...options, headers: { ...headers, "X-CSRF-Token": token } }).catch(() => null);
  const said = await answer?.json().catch(() => ({}));
  if (!answer?.ok) throw new Problem(said ?? {}, answer?.status ?? 0);
  return said;
}

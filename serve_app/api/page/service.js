// Copyright 2026 The Shoplens authors
// SPDX-License-Identifier: Apache-2.0

// Requests to the service, and what it says where it can't answer.

/** A refusal of the service, by its stable code. */
export class Problem extends Error {
  constructor(code, status, afterMs = null) {
    super(code);
    this.code = code;
    this.status = status;
    this.afterMs = afterMs;
  }
}

/** No answer came: the network is away. */
export class Offline extends Error {}

/** Search with a photo (a Blob), a token or a cursor; values of `parameters` that are empty are left out. */
export function search({ photo = null, ...parameters }, signal) {
  let body;
  if (photo) {
    body = new FormData();
    body.append("photo", photo, "photo");
  }
  return ask(`v1/search?${query(parameters)}`, { method: "POST", body, signal });
}

export const similar = (id, parameters, signal) => ask(`${product(id)}/similar?${query(parameters)}`, { signal });

export const stored = (id, signal) => ask(product(id), { signal });

const product = (id) => `v1/products/${encodeURIComponent(id)}`;

function query(parameters) {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== null && each !== undefined && each !== "") found.append(name, each);
    }
  }
  return found;
}

async function ask(address, options) {
  let answer;
  try {
    answer = await fetch(address, options);
    if (answer.ok) return await answer.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Offline(String(error));
  }
  const said = await answer.json().catch(() => ({}));
  const afterMs = said.retry_after_ms ?? 1000 * (Number(answer.headers.get("Retry-After")) || 0);
  throw new Problem(said.code ?? "internal", answer.status, afterMs || null);
}

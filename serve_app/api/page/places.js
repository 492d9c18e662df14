// Copyright 2026 The Shoplens authors
// SPDX-License-Identifier: Apache-2.0

// Where the shopper is and was: the browser's history, and addresses that hold product ids, never the photo.

import { likeView, sharedView } from "./views.js";

const visited = new Map(); // views by the id in their entry of the history; null is the start

/** Call `entered` with the view, or null, that the shopper goes back or forward to. */
export function listen(entered) {
  history.scrollRestoration = "manual";
  addEventListener("popstate", () => {
    const { id } = history.state ?? {};
    entered(visited.has(id) ? visited.get(id) : begin());
  });
}

/** Return the view that the address names; null where it names none. */
export function begin() {
  const query = new URLSearchParams(location.search);
  if (query.get("like")) return likeView(query.get("like"));
  return query.getAll("product").length ? sharedView(query.getAll("product")) : null;
}

/** Add a view to the history, or put it in the place of the one that is shown. */
export function add(view, { replace = false } = {}) {
  const depth = (history.state?.depth ?? 0) + (replace ? 0 : 1);
  const id = crypto.randomUUID?.() ?? String(Math.random());
  visited.set(id, view);
  history[replace ? "replaceState" : "pushState"]({ id, depth }, "", addressOf(view));
}

export const isFirst = () => !history.state?.depth;

/** Return a link to a view for others, without the shopper's own language and currency. */
export function linkTo(view) {
  const query = String(new URLSearchParams(idsOf(view)));
  return new URL(query && `?${query}`, location.origin + location.pathname).href;
}

function addressOf(view) {
  const before = new URLSearchParams(location.search);
  const kept = ["language", "currency"].filter((name) => before.has(name)).map((name) => [name, before.get(name)]);
  const query = String(new URLSearchParams([...kept, ...idsOf(view)]));
  return location.pathname + (query && `?${query}`);
}

function idsOf(view) {
  if (view?.kind === "like") return [["like", view.id]];
  return view?.kind === "shared" ? view.ids.map((id) => ["product", id]) : [];
}

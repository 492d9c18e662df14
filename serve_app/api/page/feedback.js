// Copyright 2026 The Shoplens authors
// SPDX-License-Identifier: Apache-2.0

// What shoppers do with an answer, told to a service that asks for it; nobody waits for that, nor learns of its failure.

import { settings } from "./texts.js";

const origins = new WeakMap(); // products: the answer that showed them, the list in it, their place in that

/** Remember which answer's list products came in; similar products are a list without a name. */
export function came(products, request_id, object_id) {
  products.forEach((product, i) => origins.set(product, { request_id, object_id, position: i + 1 }));
}

/** Tell whether something can be said of a list. */
export const isAsked = (products) => settings.feedback && origins.has(products[0]);

/** Say that a product was opened. */
export function opened(product) {
  const origin = origins.get(product);
  if (origin) send({ ...origin, product_id: product.product_id, event: "click" });
}

/** Say that no product of a list is right. */
export function noneFits([first]) {
  const { position: _, ...list } = origins.get(first);
  send({ ...list, event: "none_fits" });
}

function send(body) {
  if (!settings.feedback) return;
  const headers = { "Content-Type": "application/json" };
  // It outlives the page: who opens a product leaves.
  fetch("v1/feedback", { method: "POST", keepalive: true, headers, body: JSON.stringify(body) }).catch(() => {});
}

// Copyright 2026 The Shoplens authors
// SPDX-License-Identifier: Apache-2.0

// Products as cards, page after page.

import { opened } from "./feedback.js";
import { day, money, percent, settings, text } from "./texts.js";

const AHEAD = "600px"; // the next page is asked for before its place is reached
const SKELETONS = 6;

const list = document.getElementById("products");
const more = document.getElementById("more");

/** Call `further` where the end of the list comes near, or its button is pressed. */
export function listen(further) {
  more.addEventListener("click", further);
  new IntersectionObserver((entries) => entries.at(-1).isIntersecting && !more.hidden && further(), {
    rootMargin: AHEAD,
  }).observe(more.parentElement);
}

/** Show these products; with `from`, those before it stand there already. */
export function show(products, { from = 0, next = null, like }) {
  const cards = products.slice(from).map((product) => card(product, like));
  if (from) list.append(...cards);
  else list.replaceChildren(...cards);
  more.hidden = !next;
}

export function wait(isWaiting) {
  list.setAttribute("aria-busy", String(isWaiting));
  if (isWaiting && !list.children.length) {
    list.replaceChildren(
      ...Array.from({ length: SKELETONS }, () => {
        const node = make("li", "card empty");
        node.setAttribute("aria-hidden", "true");
        node.append(make("div", "image"), make("p", "title"), make("p", "price"));
        return node;
      }),
    );
    more.hidden = true;
  }
}

export function clear() {
  list.replaceChildren();
  more.hidden = true;
}

/** Return a product's name to show. */
export const titleOf = (product) => product.title || product.product_id;

export function card(product, like) {
  const node = make("li", "card");
  const link = make(settings.product_url ? "a" : "div", "face");
  if (settings.product_url) {
    link.href = settings.product_url.replaceAll("{product_id}", () => encodeURIComponent(product.product_id));
    link.addEventListener("click", () => opened(product));
    link.addEventListener("auxclick", (event) => event.button === 1 && opened(product));
  }
  const lines = [make("p", "title", titleOf(product)), price(product.price), ...signs(product)];
  link.append(image(product), ...lines.filter(Boolean));
  node.append(link);
  if (like) {
    const button = make("button", "like");
    button.type = "button";
    button.append(icon("i-like"), make("span", "", text("More like this")));
    button.setAttribute("aria-label", `${text("More like this")}: ${titleOf(product)}`);
    button.addEventListener("click", () => like(product));
    node.append(button);
  }
  return node;
}

export function image(product) {
  const place = make("div", "image");
  const own = settings.pictures && product.image_id ? `v1/images/${encodeURIComponent(product.image_id)}` : null;
  if (!product.image_url && !own) return place;
  const node = make("img");
  node.alt = "";
  node.loading = "lazy";
  node.decoding = "async";
  node.addEventListener("error", () => node.remove());
  if (!product.image_url) node.srcset = `${own}?width=640 2x`;
  node.src = product.image_url ?? `${own}?width=320`;
  place.append(node);
  return place;
}

/** Return what a shopper pays about, and beside it what the shop charges where that is in another currency. */
function price(found) {
  if (!found) return null;
  const node = make("p", "price", found.formatted ?? `${found.amount} ${found.currency}`);
  if (found.original) node.append(" ", make("small", "", money(found.original)));
  return node;
}

/** Return what has to be said of the rates that prices were converted by; null where none was. */
export function rates(products) {
  const converted = products.map((each) => each.price).filter((each) => each?.converted);
  if (!converted.length) return null;
  const old = converted.some((each) => each.rate_stale);
  const date = day(converted.map((each) => each.rate_date).sort()[0]);
  return text(old ? "Converted at an old rate, of {date}" : "Converted at the rate of {date}", { date });
}

function signs(product) {
  return [
    product.match === null || product.match === undefined
      ? null
      : make("p", "match", text("{percent} match", { percent: percent(product.match) })),
    product.in_stock === false ? make("p", "gone", text("Out of stock")) : null,
  ];
}

export function make(tag, name = "", words = "") {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (words) node.textContent = words;
  return node;
}

export function icon(name) {
  const [svg, use] = ["svg", "use"].map((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));
  use.setAttribute("href", `#${name}`);
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

// Copyright 2026 The Shoplens authors
// SPDX-License-Identifier: Apache-2.0

// A view as it is shown: the photo or product that it is of, its list, and what is said of that.

import { currency } from "./choices.js";
import { isAsked, noneFits } from "./feedback.js";
import * as filters from "./filters.js";
import * as notices from "./notices.js";
import * as products from "./products.js";
import * as stage from "./stage.js";
import { text } from "./texts.js";
import { seen } from "./views.js";

const OTHERWISE = "Draw a box around what you look for, or try another photo.";

const at = (id) => document.getElementById(id);

/** Show which parts of the page a view needs; null is the start. */
export function frame(view, isFirst) {
  at("start").hidden = view !== null;
  at("work").hidden = view === null;
  at("again").hidden = view === null;
  at("share").hidden = true;
  at("unfit").hidden = true;
  at("back").hidden = isFirst;
  at("rates").hidden = true;
  notices.clear();
}

/** Draw what the list of a view is of. */
export function draw(view, busy) {
  at("photo").hidden = view.kind !== "photo";
  at("origin").hidden = view.kind !== "like";
  if (view.kind === "photo") {
    const { objects, chosen } = seen(view);
    stage.draw(objects, view.box ? -1 : chosen, view.box ?? objects[chosen]?.box ?? null);
    at("photo").classList.toggle("looking", !objects.length);
  }
  if (view.kind === "like") at("origin").replaceChildren(...originOf(view.product));
  head(view, busy);
  at("filters").hidden = view.kind === "shared";
}

const originOf = (product) => (product ? [products.image(product), products.make("p", "title", products.titleOf(product))] : []);

/** Say what the list that is shown is of; while there is none, what is going on. */
export function head(view, busy) {
  const waiting = view.kind === "photo" ? text(busy ? "Searching …" : "Your photo") : named(view);
  at("found").textContent = view.list ? view.heading : waiting;
}

function named(view) {
  if (view.kind === "like") return text("More like this");
  if (view.kind === "shared") return text("Shared products");
  return view.box ? text("Selected area") : stage.nameOf(view.objects[view.chosen]);
}

/** Show a view's list; `like` is called for more like a product, `look` for another try. */
export function list(view, { like, look }) {
  notices.clear();
  const found = view.list.products;
  view.heading = named(view);
  at("found").textContent = view.heading;
  at("rates").textContent = products.rates(found) ?? "";
  at("rates").hidden = !at("rates").textContent;
  products.show(found, { next: view.list.next, like });
  filters.countIn(priceCurrency(view));
  at("share").hidden = !found.length;
  at("unfit").hidden = view.list.unfit || !isAsked(found);
  if (!found.length) nothing(view, look);
  for (const code of view.degraded) if (notices.DEGRADED[code]) notices.show(text(notices.DEGRADED[code]));
}

export function announce(view) {
  notices.announce(text("{count} product", { count: view.list.products.length }));
}

/** Return what a view's prices are in; "" where it has none. */
export const priceCurrency = (view) =>
  currency() || view.wanted.currency || view.list?.products.find((each) => each.price)?.price.currency || "";

/** Say to the service that nothing of a view's list fits, and to the shopper how to go on. */
export function unfit(view) {
  noneFits(view.list.products);
  view.list.unfit = true;
  at("unfit").hidden = true;
  const said = text("Thank you for telling us.");
  notices.clear();
  if (view.kind === "photo") notices.show(`${said} ${text(OTHERWISE)}`, another());
  else notices.show(said, another());
  notices.announce(said);
  at("found").focus({ preventScroll: true });
}

const another = () => [["New photo", () => at("another").click()]];

function nothing(view, look) {
  const narrowed = Object.keys(view.wanted).some((name) => name !== "sort");
  const whole = view.kind === "photo" && !view.box && view.objects.every((object) => !object.products?.length);
  if (narrowed) notices.show(text("No product fits these filters."), [["Clear filters", () => at("clear").click()]]);
  else if (whole) notices.show(text("This shop has no products yet."), [["Try again", look]]);
  else if (view.kind === "photo") {
    notices.show(`${text("Nothing similar was found.")} ${text(OTHERWISE)}`, another());
  } else notices.show(text("Nothing similar was found."), another());
}

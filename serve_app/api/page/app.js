// Copyright 2026 The Shoplens authors
// SPDX-License-Identifier: Apache-2.0

// The page put together: what the shopper does, and what is shown for it.

import * as arrivals from "./arrivals.js";
import * as filters from "./filters.js";
import * as notices from "./notices.js";
import { reduced } from "./photo.js";
import * as places from "./places.js";
import * as products from "./products.js";
import { Offline } from "./service.js";
import { share } from "./sharing.js";
import * as stage from "./stage.js";
import { currencyName, language, settings, speak, text } from "./texts.js";
import { categories, first, further, keyOf, likeView, photoView, searchedBox } from "./views.js";

const SETTLE_MS = 250; // a box is searched once it rests
const SLOW_MS = 3000;
const OFFLINE = "You are offline. Photo and results stay here; the search goes on once you are back online.";
const OFFLINE_MS = 5000;
const AGAIN_MS = 2000;
const TRIES = 2; // of a search that the service could not answer, before the shopper is asked

const at = (id) => document.getElementById(id);
let view = null;
let run = null;
let busy = false;
let settling = null;
let retrying = null;
let currency = new URLSearchParams(location.search).get("currency") ?? "";
if (!settings.currencies.includes(currency)) currency = "";

/* Where the shopper is. */

function open(next, options) {
  if (view) view.scroll = scrollY;
  places.add(next, options);
  enter(next);
}

places.listen((next) => {
  if (view) view.scroll = scrollY;
  enter(next);
});

function enter(next) {
  stop();
  view = next;
  at("start").hidden = view !== null;
  at("work").hidden = view === null;
  at("again").hidden = view === null;
  at("share").hidden = true;
  at("back").hidden = places.isFirst();
  notices.clear();
  if (!view) return;
  filters.begin(view.wanted);
  if (view.kind === "photo") stage.show(view.address);
  products.clear();
  at("rates").hidden = true;
  draw();
  if (view.list) {
    show();
    scrollTo(0, view.scroll);
  } else {
    scrollTo(0, 0);
    look();
  }
}

/* Searching. */

function stop() {
  run?.abort();
  busy = false;
  retrying = null;
  clearTimeout(settling);
}

/** Search for the view's first page; an answer that is overtaken is dropped. */
async function look(tries = TRIES) {
  const { now, mine, signal } = begin();
  products.wait(true);
  at("found").textContent = heading();
  notices.announce(text("Searching …"));
  const slow = setTimeout(() => {
    notices.clear();
    notices.show(text("This takes longer than usual …"));
  }, SLOW_MS);
  try {
    await first(now, currency, signal);
    if (!mine()) return;
    show();
    draw();
    notices.announce(text("{count} product", { count: view.list.products.length }));
    if (!at("wanted").hidden) count();
  } catch (error) {
    if (mine()) fail(error, tries, look);
  } finally {
    clearTimeout(slow);
    if (mine()) rest();
  }
}

function rest() {
  busy = false;
  products.wait(false);
}

async function next() {
  if (!view?.list?.next || busy) return;
  const from = view.list.products.length;
  const { now, mine, signal } = begin();
  products.wait(true);
  try {
    await further(now, currency, signal);
    if (!mine()) return;
    products.show(view.list.products, { from, next: view.list.next, like });
    notices.announce(text("{count} product", { count: view.list.products.length }));
  } catch (error) {
    if (mine()) fail(error, TRIES, next);
  } finally {
    if (mine()) rest();
  }
}

function begin() {
  stop();
  const own = new AbortController();
  const now = view;
  run = own;
  busy = true;
  return { now, signal: own.signal, mine: () => run === own && view === now && !own.signal.aborted };
}

async function count() {
  const now = view;
  const found = await categories(now, currency, run?.signal).catch(() => null);
  if (now === view && found) filters.offer(found);
}

/** Say why there is no answer, and go on by itself where another try may help. */
function fail(error, tries, again) {
  if (error.name === "AbortError") return;
  rest();
  notices.clear();
  if (!view.list) products.clear();
  at("found").textContent = heading();
  const retry = () => {
    notices.clear();
    again(Math.max(0, tries - 1));
  };
  const asked = () => {
    notices.clear();
    again();
  };
  retrying = retry;
  if (error instanceof Offline) {
    tell(navigator.onLine ? notices.sentence("unreachable").said : text(OFFLINE), asked);
    later(retry, OFFLINE_MS);
  } else if (error.status === 429) {
    notices.countDown(error.afterMs ?? AGAIN_MS, retry);
  } else {
    const { said, anotherPhoto } = notices.sentence(error.code);
    if (anotherPhoto) tell(said, () => at("another").click(), "New photo");
    else tell(said, asked);
    if (error.status === 503 && tries > 0) later(retry, error.afterMs ?? AGAIN_MS);
  }
}

function tell(said, call, name = "Try again") {
  notices.show(said, [[name, call]], "bad");
  notices.announce(said);
}

function later(retry, ms) {
  const now = view;
  clearTimeout(settling);
  settling = setTimeout(() => now === view && !busy && retry(), ms);
}

addEventListener("online", () => retrying?.());

/* Showing. */

function draw() {
  at("photo").hidden = view.kind !== "photo";
  at("origin").hidden = view.kind !== "like";
  if (view.kind === "photo") {
    const object = view.box ? null : view.objects[view.chosen];
    stage.draw(view.objects, view.box ? -1 : view.chosen, view.box ?? object?.box ?? null);
    at("photo").classList.toggle("looking", !view.objects.length);
  }
  if (view.kind === "like") {
    at("origin").replaceChildren(...(view.product ? [products.image(view.product), products.make("p", "title", products.titleOf(view.product))] : []));
  }
  at("found").textContent = heading();
  at("filters").hidden = view.kind === "shared";
}

/** Return what the list that is shown is of; while there is none, what is going on. */
function heading() {
  if (view.list) return view.heading;
  return view.kind === "photo" ? text(busy ? "Searching …" : "Your photo") : named();
}

function named() {
  if (view.kind === "like") return text("More like this");
  if (view.kind === "shared") return text("Shared products");
  return view.box ? text("Selected area") : stage.nameOf(view.objects[view.chosen]);
}

function show() {
  notices.clear();
  const found = view.list.products;
  view.heading = named();
  at("found").textContent = view.heading;
  at("rates").textContent = products.rates(found) ?? "";
  at("rates").hidden = !at("rates").textContent;
  products.show(found, { next: view.list.next, like });
  filters.countIn(priceCurrency());
  at("share").hidden = !found.length;
  if (!found.length) nothing();
  for (const code of view.degraded) if (notices.DEGRADED[code]) notices.show(text(notices.DEGRADED[code]));
}

function nothing() {
  const narrowed = Object.keys(view.wanted).some((name) => name !== "sort");
  const whole = view.kind === "photo" && !view.box && view.objects.every((object) => !object.products?.length);
  if (narrowed) notices.show(text("No product fits these filters."), [["Clear filters", () => at("clear").click()]]);
  else if (whole) notices.show(text("This shop has no products yet."), [["Try again", () => look()]]);
  else if (view.kind === "photo") {
    const said = `${text("Nothing similar was found.")} ${text("Draw a box around what you look for, or try another photo.")}`;
    notices.show(said, [["New photo", () => at("another").click()]]);
  } else notices.show(text("Nothing similar was found."), [["New photo", () => at("another").click()]]);
}

const priceCurrency = () => currency || view.wanted.currency || view.list?.products.find((each) => each.price)?.price.currency || "";

/* What the shopper does. */

function take(file) {
  open(photoView(URL.createObjectURL(file), reduced(file)));
}

function like(product) {
  open(likeView(product.product_id, product));
  at("found").focus({ preventScroll: true });
}

function choose(index) {
  view.box = null;
  view.chosen = index;
  const object = view.objects[index];
  draw();
  if (!searchedBox(view) && view.key === keyOf(view, currency)) {
    stop();
    view.list = object;
    rest();
    show();
    notices.announce(text("{count} product", { count: object.products.length }));
  } else look();
}

function drawn(box) {
  if (!view.box) {
    view.box = box;
    draw();
  }
  view.box = box;
  stop();
  settling = setTimeout(() => look(), SETTLE_MS);
}

function narrow() {
  view.wanted = filters.wanted(priceCurrency());
  look();
}

at("back").addEventListener("click", () => history.back());
at("share").addEventListener("click", () => share(view));
at("language").addEventListener("change", async (event) => {
  try {
    await speak(event.target.value);
  } catch {
    event.target.value = language();
    return;
  }
  remember("language", language());
});
at("currency").addEventListener("change", (event) => {
  currency = event.target.value;
  remember("currency", currency);
});

/** Keep a choice in the address, and show everything by it. */
function remember(name, value) {
  const address = new URL(location.href);
  if (value) address.searchParams.set(name, value);
  else address.searchParams.delete(name);
  history.replaceState(history.state, "", address);
  offerChoices();
  if (!view) return;
  if (name === "currency") {
    const { price_min, price_max, currency: _, ...kept } = view.wanted;
    view.wanted = kept;
    filters.set(kept);
  }
  draw();
  look();
}

function offerChoices() {
  const named = Object.entries(settings.languages).map(([tag, name]) => new Option(name, tag));
  for (const option of named) option.lang = option.value;
  at("language").replaceChildren(...named);
  at("language").value = language().split("-")[0];
  const known = settings.currencies.map((code) => new Option(currencyName(code), code));
  at("currency").replaceChildren(new Option(text("Prices of the shop"), ""), ...known);
  at("currency").value = currency;
  at("currencies").hidden = !settings.currencies.length;
}

arrivals.listen(take);
stage.listen({ box: drawn, object: choose });
products.listen(next);
filters.listen(narrow, count);
offerChoices();
open(places.begin(), { replace: true });

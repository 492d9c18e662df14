// Copyright 2026 The Shoplens authors
// SPDX-License-Identifier: Apache-2.0

// The page put together: what the shopper does, and the searches that follow from it.

import * as arrivals from "./arrivals.js";
import * as choices from "./choices.js";
import * as detector from "./detector.js";
import * as failures from "./failures.js";
import * as filters from "./filters.js";
import * as notices from "./notices.js";
import { reduced } from "./photo.js";
import * as places from "./places.js";
import * as products from "./products.js";
import { share } from "./sharing.js";
import * as showing from "./showing.js";
import * as stage from "./stage.js";
import { text } from "./texts.js";
import { counts, first, further, keyOf, likeView, photoView, searchedBox } from "./views.js";

const SETTLE_MS = 250; // a box is searched once it rests
const SLOW_MS = 3000;

const at = (id) => document.getElementById(id);
let view = null;
let run = null;
let busy = false;
let settling = null;

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
  showing.frame(view, places.isFirst());
  if (!view) return;
  filters.begin(view.wanted);
  if (view.kind === "photo") stage.show(view.address);
  products.clear();
  showing.draw(view, busy);
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
  clearTimeout(settling);
  failures.stop();
}

/** Search for the view's first page; an answer that is overtaken is dropped. */
async function look(tries = failures.TRIES) {
  const { now, mine, signal } = begin();
  products.wait(true);
  showing.head(view, busy);
  notices.announce(text("Searching …"));
  const slow = setTimeout(() => {
    notices.clear();
    notices.show(text("This takes longer than usual …"));
  }, SLOW_MS);
  try {
    await first(now, choices.currency(), signal);
    if (!mine()) return;
    show();
    showing.draw(view, busy);
    showing.announce(view);
    if (!at("wanted").hidden) count();
    if (now.kind === "photo") detector.load();
  } catch (error) {
    if (mine()) fail(error, tries, look);
  } finally {
    clearTimeout(slow);
    if (mine()) rest();
  }
}

async function next() {
  if (!view?.list?.next || busy) return;
  const from = view.list.products.length;
  const { now, mine, signal } = begin();
  products.wait(true);
  try {
    await further(now, choices.currency(), signal);
    if (!mine()) return;
    products.show(view.list.products, { from, next: view.list.next, like });
    showing.announce(view);
  } catch (error) {
    if (mine()) fail(error, failures.TRIES, next);
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

function rest() {
  busy = false;
  products.wait(false);
}

async function count() {
  const now = view;
  const found = await counts(now, choices.currency(), run?.signal).catch(() => null);
  if (now === view && found) filters.offer(found);
}

function fail(error, tries, again) {
  if (error.name === "AbortError") return;
  rest();
  notices.clear();
  if (!view.list) products.clear();
  showing.head(view, busy);
  failures.tell(error, tries, again);
}

const show = () => showing.list(view, { like, look: () => look() });

/* What the shopper does. */

function take(file) {
  const upload = reduced(file);
  open(photoView(URL.createObjectURL(file), upload));
  glimpse(view, upload);
}

/** Show what the browser itself finds in a photo, where the service has not answered before. */
async function glimpse(of, upload) {
  const found = await detector.find(upload);
  if (!found || of.objects.length) return;
  of.early = found;
  if (of === view) showing.draw(view, busy);
}

function like(product) {
  open(likeView(product.product_id, product));
  at("found").focus({ preventScroll: true });
}

function choose(index) {
  if (!view.objects.length) {
    guess(index);
    return;
  }
  view.box = null;
  view.chosen = index;
  showing.draw(view, busy);
  if (!searchedBox(view) && view.key === keyOf(view, choices.currency())) {
    stop();
    view.list = view.objects[index];
    rest();
    show();
    showing.announce(view);
  } else look();
}

/** Choose an object that the browser found, while the service still looks: its answer will be shown there. */
function guess(index) {
  const isAsked = busy && !view.box;
  view.box = null;
  view.guess = index;
  showing.draw(view, busy);
  if (!isAsked) look();
}

function drawn(box) {
  if (!view.box) {
    view.box = box;
    showing.draw(view, busy);
  }
  view.box = box;
  stop();
  settling = setTimeout(() => look(), SETTLE_MS);
}

function narrow() {
  view.wanted = filters.wanted(showing.priceCurrency(view));
  look();
}

function speakOrPay(name) {
  if (!view) return;
  if (name === "currency") {
    const { price_min, price_max, currency: _, ...kept } = view.wanted;
    view.wanted = kept;
  }
  filters.begin(view.wanted, { opened: !at("wanted").hidden });
  showing.draw(view, busy);
  look();
}

at("back").addEventListener("click", () => history.back());
at("share").addEventListener("click", () => share(view));
at("unfit").addEventListener("click", () => showing.unfit(view));
arrivals.listen(take);
stage.listen({ box: drawn, object: choose });
products.listen(next);
filters.listen(narrow, count);
choices.listen(speakOrPay);
open(places.begin(), { replace: true });

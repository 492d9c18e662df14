// Copyright 2026 The Shoplens authors
// SPDX-License-Identifier: Apache-2.0

// What a view shows: its products, by photo, by a product they are like, or by their ids.

import * as attributes from "./attributes.js";
import { iou } from "./boxes.js";
import { came } from "./feedback.js";
import { Offline, Problem, search, similar, stored } from "./service.js";
import { language, money, settings } from "./texts.js";

const CATEGORY = "category";
const FACETS = [CATEGORY, ...attributes.facets];
const FIRST = 12;
const PAGE = 24;
const MOST_SHARED = 24;
const SAME_IOU = 0.5; // what the browser found and what the service did are one thing
const EMPTY_PAGES = 5; // pages without anything new that are turned before the list is taken to be at its end

/** Begin a view on a photo; `upload` is a promise of what is sent of it. */
export const photoView = (address, upload) => ({ kind: "photo", address, upload, token: null, objects: [], chosen: -1, early: [], guess: -1, box: null, key: "", ...begun() });
export const likeView = (id, product = null) => ({ kind: "like", id, product, ...begun() });
export const sharedView = (ids) => ({ kind: "shared", ids: ids.slice(0, MOST_SHARED), ...begun() });

const begun = () => ({ wanted: {}, list: null, degraded: [], scroll: 0 });

/** Return the objects to choose among, and the index of the chosen one: the service's, before that the browser's own. */
export function seen(view) {
  if (view.objects.length) return { objects: view.objects, chosen: view.chosen };
  return { objects: view.early, chosen: view.guess >= 0 ? view.guess : view.early.findIndex((object) => object.main) };
}

/** Return what a view's lists depend on beside its photo. */
export const keyOf = (view, currency) => JSON.stringify([view.wanted, currency, language()]);

/** Fill a view with the first page of its products. */
export async function first(view, currency, signal) {
  await { photo: byPhoto, like: byProduct, shared: byIds }[view.kind](view, currency, signal);
}

async function byPhoto(view, currency, signal) {
  const key = keyOf(view, currency);
  const box = searchedBox(view);
  const answer = await byToken(view, { ...asked(view, currency, FIRST), box: boxText(box) }, signal);
  view.degraded = answer.degraded.filter((code) => !box || code === "partial_index");
  for (const object of answer.objects) came(object.products ?? [], answer.request_id, object.object_id);
  if (box) {
    [view.list] = answer.objects;
    return;
  }
  const guessed = view.objects.length ? null : view.early[view.guess];
  const before = view.objects[view.chosen];
  const same = answer.objects.findIndex((object) => before && String(object.box) === String(before.box) && object.products);
  view.objects = answer.objects;
  view.key = key;
  view.chosen = same >= 0 ? same : Math.max(0, answer.objects.findIndex((object) => object.main));
  view.list = view.objects[view.chosen];
  if (guessed) await meet(view, guessed, currency, signal);
}

/** Show what the shopper chose among the browser's objects: the service's own of that, else that very box. */
async function meet(view, guessed, currency, signal) {
  const overlaps = view.objects.map((object) => iou(object.box, guessed.box));
  const nearest = overlaps.indexOf(Math.max(...overlaps));
  if (overlaps[nearest] >= SAME_IOU) view.chosen = nearest;
  else view.box = guessed.box;
  if (searchedBox(view)) await byPhoto(view, currency, signal);
  else view.list = view.objects[view.chosen];
}

/** Return the box that is asked for: the shopper's, or that of an object that came without products. */
export function searchedBox(view) {
  const object = view.objects[view.chosen];
  return view.box ?? (object && !object.products ? object.box : null);
}

/** Search with the photo's token; where it is expired or there is none, with the photo itself. */
async function byToken(view, parameters, signal) {
  if (view.token) {
    try {
      return await search({ token: view.token, ...parameters }, signal);
    } catch (error) {
      if (!(error instanceof Problem) || error.code !== "photo_expired") throw error;
      view.token = null;
    }
  }
  const photo = await view.upload;
  // Where a photo is refused while it is still being sent, browsers lose the answer.
  if (photo.size > settings.max_bytes) throw new Problem("photo_too_large", 413);
  const answer = await search({ photo, ...parameters }, signal);
  view.token = answer.photo.token;
  return answer;
}

async function byProduct(view, currency, signal) {
  const [answer, product] = await Promise.all([
    similar(view.id, asked(view, currency, FIRST), signal),
    view.product ?? stored(view.id, signal).then((found) => cardOf(found.product)),
  ]);
  came(answer.products, answer.request_id);
  view.product = product;
  view.list = answer;
  view.degraded = answer.degraded;
}

async function byIds(view, _currency, signal) {
  const found = await Promise.allSettled(view.ids.map((id) => stored(id, signal)));
  const failed = found.find(({ reason }) => reason && !(reason instanceof Problem && reason.status === 404));
  if (failed) throw failed.reason;
  const products = found.flatMap(({ value }) => (value ? [cardOf(value.product)] : []));
  if (!products.length) throw new Problem("unknown_product", 404);
  view.list = { products, next: null };
}

/** Add the next page to a view's list; return whether it is still the list that was begun. */
export async function further(view, currency, signal) {
  const list = view.list;
  try {
    await turn(view, list, currency, signal);
    return true;
  } catch (error) {
    if (!(error instanceof Problem) || error.code !== "photo_expired") throw error;
  }
  const shown = list.products;
  view.token = null;
  await first(view, currency, signal);
  view.list.products = [...shown, ...unseen(view.list.products, shown)];
  for (let i = 0; i < EMPTY_PAGES && view.list.next && view.list.products.length === shown.length; i += 1) {
    await turn(view, view.list, currency, signal);
  }
  return false;
}

async function turn(view, list, currency, signal) {
  const shown = { language: language(), currency: view.wanted.currency ?? currency };
  const parameters = { cursor: list.next, top_k: PAGE, ...shown };
  const isLike = view.kind === "like";
  const answer = await (isLike ? similar(view.id, parameters, signal) : search(parameters, signal));
  const { products, next, object_id } = isLike ? answer : answer.objects[0];
  came(products ?? [], answer.request_id, object_id);
  list.products = [...list.products, ...unseen(products ?? [], list.products)];
  list.next = next;
}

function unseen(products, shown) {
  const ids = new Set(shown.map((product) => product.product_id));
  return products.filter((product) => !ids.has(product.product_id));
}

/** Return how many products have what, by facet; null where that can't be told.

A facet that is narrowed by is counted without that, so that other values of it can be chosen. */
export async function counts(view, currency, signal) {
  const [narrowed, others] = [FACETS.filter((each) => view.wanted[each]), FACETS.filter((each) => !view.wanted[each])];
  const groups = [others, ...narrowed.map((each) => [each])].filter((group) => group.length);
  const found = await Promise.all(groups.map((group) => counted(view, currency, group, signal)));
  return found.every(Boolean) ? Object.assign({}, ...found) : null;
}

async function counted(view, currency, names, signal) {
  const without = Object.fromEntries(names.map((name) => [name, null]));
  const parameters = { ...asked(view, currency, 1), ...without, facets: names };
  try {
    const found = await facetsOf(view, parameters, signal);
    const values = (name) => (name === CATEGORY ? found.category : found.attributes[name.slice("attr.".length)]);
    return found && Object.fromEntries(names.map((name) => [name, values(name)]));
  } catch (error) {
    if (error instanceof Problem || error instanceof Offline) return null;
    throw error;
  }
}

async function facetsOf(view, parameters, signal) {
  if (view.kind === "like") return (await similar(view.id, parameters, signal)).facets;
  if (view.kind !== "photo" || !view.token) return null;
  const object = view.objects[view.chosen];
  const box = view.box ?? (object?.source === "whole" ? null : object?.box);
  const of = box ? { box: boxText(box) } : { objects: "whole" };
  return (await search({ token: view.token, ...parameters, ...of }, signal)).objects[0].facets;
}

const asked = (view, currency, count) => ({ top_k: count, language: language(), currency, ...view.wanted });

const boxText = (box) => box && box.map((edge) => edge.toFixed(5)).join(",");

/** Return what a card shows of a product as the shop describes it. */
function cardOf({ product_id, title, price, in_stock, images }) {
  const tag = language();
  const of = (name) => title[name] ?? title[Object.keys(title).find((each) => each.startsWith(`${name}-`))];
  const name = of(tag) ?? of(tag.split("-")[0]) ?? of("en") ?? Object.values(title)[0] ?? null;
  const [image] = images;
  return {
    product_id,
    title: name,
    in_stock,
    price: price && { ...price, formatted: money(price) },
    image_id: image?.image_id,
    image_url: image?.url ?? null,
  };
}

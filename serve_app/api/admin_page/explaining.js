// Copyright 2026 The Shoplens authors
// SPDX-License-Identifier: AGPL-3.0-only

// Why a product is where it is in the lists of a photo.

import { facts, make, number, picture, pictureOf } from "./parts.js";

const REASONS = {
  shown: "It is on the first page.",
  further_down: "It is in the list, further down.",
  hidden_by_rule: "A rule of the shop hides it.",
  filtered_out: "It does not pass what the shopper asked for.",
  below_min_score: "Its score is below min_score.",
  below_min_match: "Its match is below min_match.",
  same_picture: "Another product shows the same picture, and comes first.",
  same_parent: "Another product of its parent stands for it.",
  beyond_ranking: "It is not among the 1,000 products that a list can have.",
  not_found: "Nothing keeps it out, but the search of the index did not find it.",
};

/** Return the answer as nodes. */
export function told({ product, views, rule, model, collection, places }) {
  const list = make("dl");
  facts(list, [
    ["Product", `${product.title ?? ""} (${product.product_id})`],
    ["Category", product.category],
    ["Price", product.price?.formatted ?? product.price?.amount],
    ["In stock", product.in_stock ? "yes" : "no"],
    ["Rule", rule && `${rule.name} (${rule.action})`],
    ["Rows in the index", number(views)],
    ["Model, index", `${model}, ${collection}`],
  ]);
  return [list, ...places.flatMap((place) => part(place, product.product_id))];
}

/** Return what two models found, as nodes: the lists of an object beside each other. */
export function sideBySide([one, other]) {
  return one.lists.flatMap((list, i) => [
    make("h3", { textContent: `${list.object}${list.main ? ", the main list" : ""}` }),
    make("div", { className: "sides" }, half(one, list, other.lists[i]), half(other, other.lists[i], list)),
  ]);
}

function half({ model, collection }, { products }, beside) {
  const places = new Map(beside.products.map((each, i) => [each.product_id, i + 1]));
  const cards = products.map((each, i) => {
    const node = card(each, i + 1, false);
    const place = places.get(each.product_id);
    node.append(make("div", { textContent: place ? `beside: place ${place}` : "beside: not on the page" }));
    if (!place) node.classList.add("asked");
    return node;
  });
  return make("div", {}, make("h4", { textContent: model }), make("p", { className: "note", textContent: collection }), make("ol", { className: "pictures" }, ...cards));
}

function part(place, productId) {
  const sure = place.confidence === null ? "" : `, ${Math.round(100 * place.confidence)} % sure`;
  const title = `${place.object}${sure}${place.main ? ", the main list" : ""}`;
  const score = `Score ${place.score.toFixed(3)} by its view “${place.view}”`;
  const last = place.first.at(-1);
  const pageEnd = place.rank === null || place.reason === "further_down" ? (last ? `; the first page ends at ${last.score.toFixed(3)}` : "") : "";
  const rank = place.rank === null ? "" : `, place ${number(place.rank)}`;
  const instead = place.instead ? ` That is ${place.instead}.` : "";
  return [
    make("h3", { textContent: title }),
    make("p", { className: "verdict", textContent: `${REASONS[place.reason] ?? place.reason}${instead}` }),
    make("p", { textContent: `${score}${rank}${pageEnd}.` }),
    make("ol", { className: "pictures" }, ...place.first.map((each, i) => card(each, i + 1, each.product_id === productId))),
  ];
}

function card(product, rank, isAsked) {
  const match = product.match === null ? "" : `, match ${Math.round(100 * product.match)} %`;
  const lines = [`${rank}. ${product.title ?? product.product_id}`, `${product.score.toFixed(3)}, ${product.view}${match}`];
  if (!product.in_stock) lines.push("out of stock");
  if (product.rule) lines.push(`rule: ${product.rule}`);
  const node = make("li", {}, picture(pictureOf(product)), ...lines.map((line) => make("div", { textContent: line })));
  if (isAsked) node.classList.add("asked");
  return node;
}

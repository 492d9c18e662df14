// Copyright 2026 The Shoplens authors
// SPDX-License-Identifier: Apache-2.0

// Boxes to tick for the attributes that the shop lets shoppers narrow by.

import { make } from "./products.js";
import { language, settings } from "./texts.js";

const place = document.getElementById("attributes");

/** The facets of attributes, as a search names them. */
export const facets = Object.keys(settings.facets).map((name) => `attr.${name}`);

/** Return what is ticked, as parameters of a search. */
export function wanted() {
  const found = {};
  for (const box of place.querySelectorAll("input:checked")) (found[box.name] ??= []).push(box.value);
  return found;
}

/** Offer values by facet, with how many products each has; what is `ticked` is offered whatever it has. */
export function offer(counts, ticked) {
  const { name, value } = place.contains(document.activeElement) ? document.activeElement : {};
  place.replaceChildren(...facets.map((facet) => group(facet, counts[facet] ?? [], ticked[facet] ?? [])).filter(Boolean));
  place.hidden = !place.children.length;
  [...place.querySelectorAll("input")].find((box) => box.name === name && box.value === value)?.focus();
}

function group(facet, counted, ticked) {
  const lacking = ticked.filter((value) => !counted.some((each) => String(each.value) === value));
  const values = [...counted, ...lacking.map((value) => ({ value, count: null }))];
  if (!values.length) return null;
  const node = make("fieldset", "attribute");
  const choices = make("div", "values");
  choices.append(...values.map((each) => choice(facet, each, ticked.includes(String(each.value)))));
  node.append(make("legend", "", nameOf(facet.slice("attr.".length))), choices);
  return node;
}

function choice(facet, { value, count }, isTicked) {
  const node = make("label", "tick");
  const box = make("input");
  Object.assign(box, { type: "checkbox", name: facet, value: String(value), checked: isTicked });
  const number = new Intl.NumberFormat(language());
  const words = typeof value === "number" ? number.format(value) : String(value);
  node.append(box, make("span", "", count === null ? words : `${words} (${number.format(count)})`));
  return node;
}

function nameOf(attribute) {
  const names = settings.facets[attribute];
  const [base] = language().split("-");
  return names[language()] ?? names[base] ?? names.en ?? Object.values(names)[0] ?? attribute;
}

// Copyright 2026 The Shoplens authors
// SPDX-License-Identifier: Apache-2.0

// What narrows a search: category, price, stock, attributes, order.

import * as attributes from "./attributes.js";
import { language, text } from "./texts.js";

const form = document.getElementById("wanted");
const opener = document.getElementById("filters");
const badge = document.getElementById("filtered");
const categories = document.getElementById("categories");
const fields = form.elements;
const ZEROS = [0x0660, 0x06f0, 0x0966, 0x0e50, 0xff10]; // Arabic, Persian, Hindi, Thai, full width

/** Call `changed` once the shopper has narrowed otherwise, `opened` when the panel is opened. */
export function listen(changed, opened) {
  const tell = () => {
    if (!form.reportValidity()) return;
    count();
    changed();
  };
  form.addEventListener("change", tell);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    tell();
  });
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    set({});
    changed();
  });
  opener.addEventListener("click", () => {
    unfold(form.hidden);
    if (!form.hidden) opened();
  });
}

/** Return the parameters of a search as they are filled in; a price is in `currency`. */
export function wanted(currency) {
  const amount = (name) => fields[name].value.trim().replace(/\p{Nd}/gu, asciiDigit).replace(/[,٫]/, ".");
  const prices = currency && form.checkValidity() ? { price_min: amount("price_min"), price_max: amount("price_max") } : {};
  const found = { sort: fields.sort.value, category: fields.category.value, ...prices, ...attributes.wanted() };
  if (fields.in_stock.checked) found.in_stock = "true";
  const given = Object.fromEntries(Object.entries(found).filter(([, value]) => value));
  return given.price_min || given.price_max ? { ...given, currency } : given;
}

function asciiDigit(digit) {
  const code = digit.codePointAt(0);
  const zero = ZEROS.find((each) => each <= code && code < each + 10);
  return zero === undefined ? digit : String(code - zero);
}

/** Fill in parameters that were wanted before. */
export function set(given) {
  for (const name of ["sort", "price_min", "price_max"]) fields[name].value = given[name] ?? "";
  if (given.category && ![...fields.category.options].some((option) => option.value === given.category)) {
    fields.category.append(new Option(given.category, given.category));
  }
  fields.category.value = given.category ?? "";
  fields.in_stock.checked = given.in_stock === "true";
  attributes.offer({}, given);
  count();
}

/** Begin anew: closed unless it was `opened`, with nothing to choose among but what is wanted. */
export function begin(given, { opened = false } = {}) {
  unfold(opened);
  fields.category.replaceChildren(new Option(text("All categories"), ""));
  set(given);
  categories.hidden = !given.category;
}

/** Say what prices are counted in; without a currency there are none to narrow by. */
export function countIn(currency) {
  for (const node of form.querySelectorAll(".unit")) node.textContent = currency ? `(${currency})` : "";
  for (const name of ["price_min", "price_max"]) fields[name].disabled = !currency;
}

/** Let the shopper choose among what was counted, with how many products each has. */
export function offer({ category, ...others }) {
  attributes.offer(others, attributes.wanted());
  const before = fields.category.value;
  const options = [...category].sort((a, b) => nameOf(a).localeCompare(nameOf(b), language())).map(option);
  fields.category.replaceChildren(new Option(text("All categories"), ""), ...options);
  if (before && fields.category.value !== before) fields.category.append(new Option(before, before, true, true));
  fields.category.value = before;
  categories.hidden = fields.category.options.length < 2;
}

const nameOf = (each) => each.shown ?? each.value;

function option(each) {
  const parts = nameOf(each).split("/");
  const number = new Intl.NumberFormat(language()).format(each.count);
  return new Option(`${"\u2003".repeat(parts.length - 1)}${parts.at(-1)} (${number})`, each.value);
}

function unfold(isOpen) {
  form.hidden = !isOpen;
  opener.setAttribute("aria-expanded", String(isOpen));
}

function count() {
  const set = ["category", "price_min", "price_max"].filter((name) => fields[name].value).length;
  const ticked = Number(fields.in_stock.checked) + Object.values(attributes.wanted()).flat().length;
  badge.hidden = !(set + ticked);
  badge.textContent = badge.hidden ? "" : new Intl.NumberFormat(language()).format(set + ticked);
}

// Copyright 2026 The Shoplens authors
// SPDX-License-Identifier: Apache-2.0

// What the page says: texts, numbers and names in the reader's language.

let said = JSON.parse(document.getElementById("settings").textContent);

export const settings = said;

/** The language that the page is in now, as a tag. */
export const language = () => said.language;

/** Return a text by its English original; a number `count` chooses the plural form. */
export function text(original, values = {}) {
  let found = said.texts[original] ?? original;
  if (typeof found !== "string") {
    const category = new Intl.PluralRules(said.language).select(values.count);
    found = found[category] ?? found.other;
  }
  return found.replace(/\{(\w+)\}/g, (_, name) => shown(values[name]));
}

/** Return what a thing that the detector found is called. */
export function labelled(label) {
  const name = said.labels[label] ?? label;
  return name.charAt(0).toLocaleUpperCase(said.language) + name.slice(1);
}

export const percent = (share) =>
  new Intl.NumberFormat(said.language, { style: "percent", maximumFractionDigits: 0 }).format(share);

export const day = (date) =>
  new Intl.DateTimeFormat(said.language, { dateStyle: "medium", timeZone: "UTC" }).format(new Date(date));

export const money = ({ amount, currency }) =>
  new Intl.NumberFormat(said.language, { style: "currency", currency }).format(amount);

/** Return a currency's code and its name. */
export function currencyName(code) {
  const name = new Intl.DisplayNames(said.language, { type: "currency" }).of(code);
  return name === code ? code : `${code} · ${name}`;
}

/** Speak another language from now on; raises where its texts can't be had. */
export async function speak(tag) {
  const answer = await fetch(`page/texts/${encodeURIComponent(tag)}`);
  if (!answer.ok) throw new Error(`no texts: ${answer.status}`);
  said = { ...settings, ...(await answer.json()) };
  document.documentElement.lang = said.language;
  document.documentElement.dir = said.direction;
  document.title = text("Search by photo");
  for (const node of document.querySelectorAll("[data-text]")) node.textContent = text(node.dataset.text);
  for (const node of document.querySelectorAll("[data-alt]")) node.alt = text(node.dataset.alt);
}

function shown(value) {
  return typeof value === "number" ? new Intl.NumberFormat(said.language).format(value) : (value ?? "");
}

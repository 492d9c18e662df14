// Copyright 2026 The Shoplens authors
// SPDX-License-Identifier: Apache-2.0

// The language and the currency that everything is shown in, kept in the address.

import { currencyName, language, settings, speak, text } from "./texts.js";

const languages = document.getElementById("language");
const currencies = document.getElementById("currency");

let chosen = new URLSearchParams(location.search).get("currency") ?? "";
if (!settings.currencies.includes(chosen)) chosen = "";

/** The currency that prices are wanted in; "" for each in the shop's own. */
export const currency = () => chosen;

/** Offer what there is, and call `changed` with what the shopper chose otherwise: "language" or "currency". */
export function listen(changed) {
  const take = (name, value) => {
    keep(name, value);
    offer();
    changed(name);
  };
  languages.addEventListener("change", async () => {
    try {
      await speak(languages.value);
    } catch {
      offer();
      return;
    }
    take("language", language());
  });
  currencies.addEventListener("change", () => {
    chosen = currencies.value;
    take("currency", chosen);
  });
  offer();
}

function keep(name, value) {
  const address = new URL(location.href);
  if (value) address.searchParams.set(name, value);
  else address.searchParams.delete(name);
  history.replaceState(history.state, "", address);
}

function offer() {
  const named = Object.entries(settings.languages).map(([tag, name]) => new Option(name, tag));
  for (const option of named) option.lang = option.value;
  languages.replaceChildren(...named);
  languages.value = language().split("-")[0];
  const known = settings.currencies.map((code) => new Option(currencyName(code), code));
  currencies.replaceChildren(new Option(text("Prices of the shop"), ""), ...known);
  currencies.value = chosen;
  document.getElementById("currencies").hidden = !settings.currencies.length;
}

// Copyright 2026 The Shoplens authors
// SPDX-License-Identifier: Apache-2.0

// What a person is told where something is missing, always with a way on.

import { make } from "./products.js";
import { text } from "./texts.js";

const place = document.getElementById("notices");
const status = document.getElementById("status");
let timer = null;

const UNREADABLE = "This photo can't be read. Try another one: JPEG, PNG or WebP.";
const TOO_LARGE = "This photo is too large. Try a smaller one.";
const AWAY = "The search is not available right now.";
const SENTENCES = {
  empty_body: UNREADABLE,
  not_an_image: UNREADABLE,
  truncated: UNREADABLE,
  unsupported_type: UNREADABLE,
  photo_too_large: TOO_LARGE,
  too_many_pixels: TOO_LARGE,
  photo_expired: "This photo has expired. Choose it again.",
  index_missing: "This shop has no products yet.",
  unknown_product: "These products are not here any more.",
  not_found: "These products are not here any more.",
  internal: "Something went wrong.",
};
const BY_ANOTHER_PHOTO = [UNREADABLE, TOO_LARGE, SENTENCES.photo_expired, SENTENCES.unknown_product];

export const DEGRADED = {
  no_object: "Nothing was recognised, so the whole photo was searched.",
  no_detector: "Things in photos can't be recognised right now, so the whole photo was searched.",
  partial_index: "A part of the catalogue does not answer; some products may be missing.",
};

/** Return what a problem is told as, and whether another photo, rather than another try, is the way on. */
export function sentence(code) {
  const found = SENTENCES[code] ?? AWAY;
  return { said: text(found), anotherPhoto: BY_ANOTHER_PHOTO.includes(found) };
}

export function announce(words) {
  status.textContent = words;
}

export function clear() {
  clearInterval(timer);
  place.replaceChildren();
}

/** Show a sentence with its ways on, `[text, call]` each. */
export function show(words, ways = [], mark = "") {
  const node = make("div", mark ? `notice ${mark}` : "notice");
  const line = make("p", "", words);
  node.append(line);
  for (const [name, call] of ways) {
    const button = make("button", "button", text(name));
    button.type = "button";
    button.addEventListener("click", call);
    node.append(button);
  }
  place.append(node);
  return line;
}

/** Count down to the next try; it is told once, not every second. */
export function countDown(afterMs, retry) {
  const until = performance.now() + afterMs;
  const words = () => text("Too many people are searching. Next try in {count} second.", { count: left() });
  const left = () => Math.max(0, Math.ceil((until - performance.now()) / 1000));
  const line = show(words(), [["Try again", retry]], "bad");
  announce(words());
  timer = setInterval(() => {
    line.textContent = words();
    if (left() > 0) return;
    clearInterval(timer);
    retry();
  }, 500);
}


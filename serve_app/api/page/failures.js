// Copyright 2026 The Shoplens authors
// SPDX-License-Identifier: Apache-2.0

// What is done where no answer came: it is said, and tried again by itself where that may help.

import * as notices from "./notices.js";
import { Offline } from "./service.js";
import { text } from "./texts.js";

const OFFLINE = "You are offline. Photo and results stay here; the search goes on once you are back online.";
const OFFLINE_MS = 5000;
const AGAIN_MS = 2000;

export const TRIES = 2; // of a search that the service could not answer, before the shopper is asked

let retrying = null;
let timer = null;

/** Try nothing again: another search has begun, or another view is shown. */
export function stop() {
  retrying = null;
  clearTimeout(timer);
}

/** Say why there is no answer; `again` is called with the tries that are left then, and with none where a person asks. */
export function tell(error, tries, again) {
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
    say(navigator.onLine ? notices.sentence("unreachable").said : text(OFFLINE), asked);
    later(retry, OFFLINE_MS);
  } else if (error.status === 429) {
    notices.countDown(error.afterMs ?? AGAIN_MS, retry);
  } else {
    const { said, anotherPhoto } = notices.sentence(error.code);
    if (anotherPhoto) say(said, () => document.getElementById("another").click(), "New photo");
    else say(said, asked);
    if (error.status === 503 && tries > 0) later(retry, error.afterMs ?? AGAIN_MS);
  }
}

function say(said, call, name = "Try again") {
  notices.show(said, [[name, call]], "bad");
  notices.announce(said);
}

function later(retry, ms) {
  clearTimeout(timer);
  timer = setTimeout(retry, ms);
}

addEventListener("online", () => retrying?.());

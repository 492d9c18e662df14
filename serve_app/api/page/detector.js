// Copyright 2026 The Shoplens authors
// SPDX-License-Identifier: Apache-2.0

// What is in a photo, found in the browser itself before the service answers: an extra that nothing waits for.

import { settings } from "./texts.js";

const LEAST_MBIT_S = 5; // 12 MB come once
const READY = "shoplens detector ready"; // marks of the browser's own timeline
const FOUND = "shoplens objects found";

let worker = null;
let isReady = false;
let asked = null; // the photo that the worker has, and how its objects are told

/** Fetch the detector where there is one, in a quiet moment, and over a network that is neither metered nor slow. */
export function load() {
  if (worker || !settings.detector || !isFree(navigator.connection)) return;
  worker = new Worker(new URL("./detector.worker.js", import.meta.url), { type: "module" });
  worker.addEventListener("error", give);
  worker.addEventListener("message", ({ data }) => {
    if (data.ready) {
      isReady = true;
      performance.mark(READY);
    } else if (data.failed) give();
    else tell(data.number, data.objects);
  });
  const folder = new URL(settings.detector.folder, document.baseURI).href;
  (self.requestIdleCallback ?? setTimeout)(() => worker.postMessage({ ...settings.detector, folder }));
}

/** Tell whether a network may be used for what nobody asked for; browsers that don't say are taken to have another. */
export function isFree(connection) {
  if (!connection || connection.saveData || connection.effectiveType !== "4g") return false;
  // A desktop's browser names no type.
  return connection.downlink >= LEAST_MBIT_S && ["wifi", "ethernet", undefined].includes(connection.type);
}

/** Return the objects of what is sent of a photo; null where they can't be found here, or another photo came. */
export async function find(upload) {
  if (!isReady) return null;
  const number = (asked?.number ?? 0) + 1;
  tell(asked?.number, null);
  const found = new Promise((done) => {
    asked = { number, done, since: performance.now() };
  });
  worker.postMessage({ number, photo: await upload });
  return found;
}

function tell(number, objects) {
  if (!asked || asked.number !== number) return;
  if (objects) performance.measure(FOUND, { start: asked.since });
  asked.done(objects);
}

function give() {
  isReady = false;
  tell(asked?.number, null);
  worker.terminate();
}

// Copyright 2026 The Shoplens authors
// SPDX-License-Identifier: Apache-2.0

// The detector itself, on a thread of its own: photos in, objects out, as the service would find them.

import { areaOf, iou } from "./boxes.js";

const LONG_SIDE = 1600; // of what the service searches with; the page sends nothing larger that a browser can read
const STRIDE = 32;
const GREY = 114 / 255; // what YOLO was trained with around a photo that is not square
const SAME_IOU = 0.7; // from here on serve_app/objects.py, which says why
const SMALLEST_AREA = 0.001;
const SEARCHED = 3;
const MAIN_CONFIDENCE = 0.4;
const MAIN_AREA = 0.1;

let ort = null;
let session = null;
let given = null;
let labels = [];
let latest = null; // the photo to look at next; one that another overtakes is left out
let isBusy = false;

addEventListener("message", ({ data }) => {
  if (data.folder) begin(data);
  else {
    latest = data;
    work();
  }
});

async function begin(settings) {
  given = settings;
  try {
    ort = await import(`${given.folder}/ort.wasm.bundle.min.mjs`);
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmPaths = { wasm: `${given.folder}/ort-wasm-simd-threaded.wasm` };
    const [told, model] = await Promise.all([got("yolo26n.onnx.json", "json"), got("yolo26n.onnx", "arrayBuffer")]);
    labels = told.labels;
    session = await ort.InferenceSession.create(new Uint8Array(model), { executionProviders: ["wasm"] });
    given.side = told.input.shape[3];
    // The first run makes what later ones use.
    await rowsOf(new Float32Array(3 * given.side ** 2));
    postMessage({ ready: true });
  } catch {
    postMessage({ failed: true });
  }
}

async function got(name, kind) {
  const answer = await fetch(`${given.folder}/${name}`);
  if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
  return answer[kind]();
}

async function work() {
  if (isBusy) return;
  isBusy = true;
  while (latest) {
    const { number, photo } = latest;
    latest = null;
    const objects = await found(photo).catch(() => null);
    postMessage({ number, objects });
  }
  isBusy = false;
}

async function found(photo) {
  const pixels = await pixelsOf(photo);
  const place = placed(pixels.width, pixels.height);
  return shown(boxesOf(await rowsOf(fitted(pixels, place)), pixels, place));
}

/** Return a photo's pixels: upright, in sRGB, transparent parts white. */
async function pixelsOf(photo) {
  const bitmap = await createImageBitmap(photo, { imageOrientation: "from-image" });
  const { width, height } = bitmap;
  if (Math.max(width, height) > LONG_SIDE) throw new Error("the service would make it smaller");
  const pen = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, width, height);
  pen.drawImage(bitmap, 0, 0);
  bitmap.close();
  return pen.getImageData(0, 0, width, height);
}

/** Return where a photo lies in the model's square: its cells see the same pixels as those of the service's board. */
function placed(width, height) {
  const { side } = given;
  const scale = side / Math.max(width, height);
  const sideways = within(width * scale);
  const upright = within(height * scale);
  return { scale, wide: sideways.length, high: upright.length, left: sideways.start, top: upright.start };
}

/** Return how many pixels of the square a side of a photo takes, and where; the service pads it to whole strides. */
function within(exact) {
  const { side } = given;
  const length = Math.max(1, Math.round(exact));
  const padded = STRIDE * Math.ceil(Number(Math.max(exact, side / 8).toFixed(3)) / STRIDE);
  return { length, start: STRIDE * Math.floor((side - padded) / 2 / STRIDE) + Math.trunc((padded - length) / 2) };
}

/** Return (3, side, side) in 0…1, the photo resized between its nearest pixels, as OpenCV's INTER_LINEAR does. */
function fitted({ data, width, height }, { wide, high, left, top }) {
  const { side } = given;
  const area = side * side;
  const board = new Float32Array(3 * area).fill(GREY);
  const columns = between(wide, width);
  const rows = between(high, height);
  for (let y = 0; y < high; y += 1) {
    const [above, below, down] = rows[y];
    for (let x = 0; x < wide; x += 1) {
      const [before, after, right] = columns[x];
      for (let colour = 0; colour < 3; colour += 1) {
        const at = (row, column) => data[4 * (row * width + column) + colour];
        const upper = at(above, before) * (1 - right) + at(above, after) * right;
        const lower = at(below, before) * (1 - right) + at(below, after) * right;
        board[colour * area + (top + y) * side + left + x] = Math.round(upper * (1 - down) + lower * down) / 255;
      }
    }
  }
  return board;
}

/** Return for each of `count` pixels the two of `length` that it lies between, and how near the second is. */
function between(count, length) {
  return Array.from({ length: count }, (_, i) => {
    const place = Math.max(0, ((i + 0.5) * length) / count - 0.5);
    const first = Math.min(Math.floor(place), length - 1);
    return [first, Math.min(first + 1, length - 1), place - first];
  });
}

async function rowsOf(board) {
  const { side } = given;
  const [input] = session.inputNames;
  const [output] = session.outputNames;
  const told = await session.run({ [input]: new ort.Tensor("float32", board, [1, 3, side, side]) });
  return told[output].data;
}

/** Return what is sure enough of rows of corners in the square's pixels, confidence and label. */
function boxesOf(rows, { width, height }, { scale, left, top }) {
  const part = (pixels, whole) => Math.min(1, Math.max(0, pixels / scale / whole));
  const boxes = [];
  for (let i = 0; i < rows.length; i += 6) {
    const [x0, y0, x1, y1, confidence, label] = rows.subarray(i, i + 6);
    const box = [part(x0 - left, width), part(y0 - top, height), part(x1 - left, width), part(y1 - top, height)];
    if (confidence >= given.min_confidence && areaOf(box) > 0) boxes.push({ box, label: labels[label], confidence });
  }
  return boxes;
}

/** Return the objects that a photo is shown with: distinct ones, sure and large first, and the whole photo. */
function shown(boxes) {
  const weight = ({ box, confidence }) => confidence * Math.sqrt(areaOf(box));
  const chosen = [];
  for (const each of [...boxes].sort((one, other) => weight(other) - weight(one))) {
    if (chosen.length === given.most) break;
    if (areaOf(each.box) < SMALLEST_AREA) continue;
    if (chosen.every((other) => iou(each.box, other.box) < SAME_IOU)) chosen.push(each);
  }
  const main = chosen.slice(0, SEARCHED).findIndex(({ box, confidence }) => confidence >= MAIN_CONFIDENCE && areaOf(box) >= MAIN_AREA);
  const objects = chosen.map((each, i) => ({ ...each, source: "device", main: i === main, products: null }));
  return [...objects, { box: [0, 0, 1, 1], label: null, confidence: null, source: "whole", main: main < 0, products: null }];
}

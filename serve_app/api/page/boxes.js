// Copyright 2026 The Shoplens authors
// SPDX-License-Identifier: Apache-2.0

// Boxes in 0…1 of the photo: x0, y0, x1, y1.

export const SMALLEST = 0.05;
const AT_FIRST = 0.4; // side of a box where the photo is tapped and there was none

const within = (value, low, high) => Math.min(Math.max(value, low), high);

/** Tell whether a box leaves no room beside it, so that what is touched is the photo. */
export const coversAll = ([x0, y0, x1, y1]) => (x1 - x0) * (y1 - y0) > 0.9;

export const areaOf = ([x0, y0, x1, y1]) => Math.max(0, x1 - x0) * Math.max(0, y1 - y0);

/** Return the part of two boxes together that both cover. */
export function iou(one, other) {
  const both = areaOf([Math.max(one[0], other[0]), Math.max(one[1], other[1]), Math.min(one[2], other[2]), Math.min(one[3], other[3])]);
  return both / (areaOf(one) + areaOf(other) - both);
}

export function moved([x0, y0, x1, y1], dx, dy) {
  const right = within(dx, -x0, 1 - x1);
  const down = within(dy, -y0, 1 - y1);
  return [x0 + right, y0 + down, x1 + right, y1 + down];
}

/** Return the box with a corner (nw, ne, sw, se) moved, never smaller than can be seen. */
export function resized([x0, y0, x1, y1], corner, dx, dy) {
  return [
    corner.includes("w") ? within(x0 + dx, 0, x1 - SMALLEST) : x0,
    corner.includes("n") ? within(y0 + dy, 0, y1 - SMALLEST) : y0,
    corner.includes("e") ? within(x1 + dx, x0 + SMALLEST, 1) : x1,
    corner.includes("s") ? within(y1 + dy, y0 + SMALLEST, 1) : y1,
  ];
}

export function scaled([x0, y0, x1, y1], factor) {
  const width = within((x1 - x0) * factor, SMALLEST, 1);
  const height = within((y1 - y0) * factor, SMALLEST, 1);
  return around((x0 + x1) / 2, (y0 + y1) / 2, width, height);
}

/** Return the box brought to a point; one that covers all becomes a smaller one there. */
export function centred(box, x, y) {
  const all = coversAll(box);
  return around(x, y, all ? AT_FIRST : box[2] - box[0], all ? AT_FIRST : box[3] - box[1]);
}

/** Return the box between two points. */
export function spanned(ax, ay, bx, by) {
  const [x0, x1] = [Math.min(ax, bx), Math.max(ax, bx)].map((x) => within(x, 0, 1));
  const [y0, y1] = [Math.min(ay, by), Math.max(ay, by)].map((y) => within(y, 0, 1));
  return around((x0 + x1) / 2, (y0 + y1) / 2, Math.max(x1 - x0, SMALLEST), Math.max(y1 - y0, SMALLEST));
}

function around(x, y, width, height) {
  const x0 = within(x - width / 2, 0, 1 - width);
  const y0 = within(y - height / 2, 0, 1 - height);
  return [x0, y0, Math.min(1, x0 + width), Math.min(1, y0 + height)];
}

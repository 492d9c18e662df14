// Copyright 2026 The Shoplens authors
// SPDX-License-Identifier: Apache-2.0

// The photo with what was found in it: dots to tap, and a box to move and resize.

import { centred, coversAll, moved, resized, scaled, spanned } from "./boxes.js";
import { labelled, text } from "./texts.js";

const STEP = 0.02; // of the photo, for each press of a key
const DRAWN_PX = 12; // a mouse that moves less clicks
const ARROWS = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };

const stage = document.getElementById("stage");
const frame = document.getElementById("frame");
const dots = document.getElementById("dots");
const things = document.getElementById("things");
const picture = document.getElementById("picture");

let box = null;
let told = { box() {}, object() {} };

/** Tell `listeners.box` of each box that the shopper draws, `listeners.object` of the index of what was chosen. */
export function listen(listeners) {
  told = listeners;
}

export function show(address) {
  if (picture.src !== address) picture.src = address;
}

/** Draw the objects of an answer and the box that is searched; `chosen` is the index of its object, -1 for none. */
export function draw(objects, chosen, searched) {
  dots.replaceChildren(...objects.flatMap((object, i) => (i === chosen || object.source === "whole" ? [] : [dot(object, i)])));
  things.setAttribute("aria-label", text("{count} object found", { count: objects.filter(isThing).length }));
  reuse(objects.length, chosen < 0 && searched !== null);
  objects.forEach((object, i) => label(things.children[i], nameOf(object), i === chosen));
  place(searched);
  frame.setAttribute("aria-label", text("Box: arrow keys move it, Shift and arrow keys resize it."));
}

const isThing = (object) => object.source !== "whole";

export const nameOf = (object) => (isThing(object) && object.label ? labelled(object.label) : text(isThing(object) ? "Selected area" : "Whole photo"));

/** Keep the buttons that are there, so that the one with the focus stays. */
function reuse(count, own) {
  things.querySelector(".own")?.remove();
  while (things.children.length > count) things.lastChild.remove();
  while (things.children.length < count) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "thing";
    const index = things.children.length;
    button.addEventListener("click", () => told.object(index));
    things.append(button);
  }
  if (own) {
    const mark = document.createElement("span");
    mark.className = "thing own";
    mark.textContent = text("Selected area");
    things.append(mark);
  }
}

function label(button, name, pressed) {
  button.textContent = name;
  button.setAttribute("aria-pressed", String(pressed));
}

/** Make a touch target on the photo; keyboards and screen readers have the buttons below it. */
function dot(object, index) {
  const button = document.createElement("button");
  const [x0, y0, x1, y1] = object.box;
  button.type = "button";
  button.className = "dot";
  button.tabIndex = -1;
  button.setAttribute("aria-hidden", "true");
  button.title = nameOf(object);
  button.style.left = `${50 * (x0 + x1)}%`;
  button.style.top = `${50 * (y0 + y1)}%`;
  button.style.zIndex = String(Math.round(100 * (1 - (x1 - x0) * (y1 - y0))));
  button.addEventListener("click", (event) => {
    event.stopPropagation();
    told.object(index);
  });
  return button;
}

function place(next) {
  box = next;
  frame.hidden = box === null;
  if (!box) return;
  const [x0, y0, x1, y1] = box;
  frame.style.left = `${100 * x0}%`;
  frame.style.top = `${100 * y0}%`;
  frame.style.width = `${100 * (x1 - x0)}%`;
  frame.style.height = `${100 * (y1 - y0)}%`;
  frame.classList.toggle("all", coversAll(box));
}

function change(next) {
  place(next);
  told.box(next);
}

/** Follow a pointer until it is lifted, in parts of the photo from where it went down. */
function follow(event, target, onMove) {
  const { width, height } = stage.getBoundingClientRect();
  const from = [event.clientX, event.clientY];
  target.setPointerCapture(event.pointerId);
  const move = (each) => onMove((each.clientX - from[0]) / width, (each.clientY - from[1]) / height);
  const end = () => {
    target.removeEventListener("pointermove", move);
    for (const name of ["pointerup", "pointercancel"]) target.removeEventListener(name, end);
  };
  target.addEventListener("pointermove", move);
  for (const name of ["pointerup", "pointercancel"]) target.addEventListener(name, end);
}

function point(event) {
  const { left, top, width, height } = stage.getBoundingClientRect();
  return [(event.clientX - left) / width, (event.clientY - top) / height];
}

frame.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || !box) return;
  const [before, corner] = [box, event.target.dataset.corner];
  event.stopPropagation();
  follow(event, frame, (dx, dy) => change(corner ? resized(before, corner, dx, dy) : moved(before, dx, dy)));
});
frame.addEventListener("click", (event) => event.stopPropagation());
frame.addEventListener("keydown", (event) => {
  const step = ARROWS[event.key];
  if (!step || !box || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  change(event.shiftKey ? resized(box, "se", ...step) : moved(box, ...step));
});

let drew = false;
stage.addEventListener("pointerdown", (event) => {
  drew = false;
  if (!box || event.button !== 0 || event.pointerType !== "mouse" || event.target.closest("button")) return;
  const { width, height } = stage.getBoundingClientRect();
  const [x, y] = point(event);
  follow(event, stage, (dx, dy) => {
    drew ||= Math.hypot(dx * width, dy * height) > DRAWN_PX;
    if (drew) change(spanned(x, y, x + dx, y + dy));
  });
});
stage.addEventListener("click", (event) => {
  if (box && !drew) change(centred(box, ...point(event)));
});
document.getElementById("smaller").addEventListener("click", () => box && change(scaled(box, 0.8)));
document.getElementById("larger").addEventListener("click", () => box && change(scaled(box, 1.25)));

// Copyright 2026 The Shoplens authors
// SPDX-License-Identifier: AGPL-3.0-only

// The page for the shop's own people, put together.

import { sideBySide, told } from "./explaining.js";
import { counts, facts, make, number, picture, table, time } from "./parts.js";
import * as service from "./service.js";

const at = (id) => document.getElementById(id);

const INDEXES = [
  ["Collection", (each) => each.collection],
  ["Model", (each) => each.fingerprint],
  ["Searched as", (each) => each.alias],
  ["Rows", (each) => number(each.rows)],
  ["Loaded", (each) => (each.loaded ? "yes" : "no")],
  ["Index", (each) => each.index_type],
  ["Made", (each) => time(each.created)],
];
const IMPORTS = [
  ["Begun", (each) => time(each.at)],
  ["Manifest", (each) => each.manifest],
  ["Images", (each) => counts(each.counts)],
  ["Removed", (each) => number(each.removed)],
  ["Left out", (each) => leftOut(each)],
  ["Seconds", (each) => number(each.seconds)],
];
const SEARCHES = [
  ["At", (each) => time(each.at_ms)],
  ["What", (each) => each.what],
  ["Outcome", (each) => each.code],
  ["Objects", (each) => number(each.objects)],
  ["Products", (each) => number(each.products)],
  ["Lacks", (each) => (each.degraded ?? []).join(", ")],
  ["Photo, bytes", (each) => number(each.photo_bytes)],
  ["Milliseconds", (each) => (each.ms ? Object.entries(each.ms).map(([name, value]) => `${name} ${Math.round(value)}`).join(", ") : "")],
];

/** Do what a person asked for, and say where it can't be done. */
async function attempt(work) {
  at("trouble").textContent = "";
  try {
    await work();
  } catch (error) {
    if (!(error instanceof service.Problem)) throw error;
    if (error.status === 401) outside();
    at("trouble").textContent = error.message;
  }
}

function outside() {
  at("enter").hidden = false;
  for (const id of ["inside", "leave"]) at(id).hidden = true;
  at("who").textContent = "";
}

async function inside({ name, has_key }) {
  at("enter").hidden = true;
  at("inside").hidden = false;
  at("leave").hidden = !has_key;
  at("who").textContent = `Signed in as ${name}`;
  // One after the other fails alone: a Milvus that is away hides no import.
  for (const part of [overview, models, imports, searches]) await attempt(part);
}

async function overview() {
  const found = await service.get("overview");
  facts(at("facts"), [
    ["Model", found.model],
    ["Index", found.collection],
    ["State", found.reason || "searched"],
    ["Rules in force", number(found.rules)],
    ["Version", found.version],
  ]);
  table(at("indexes"), INDEXES, found.indexes);
}

async function models() {
  const others = (await service.get("models")).filter((each) => !each.running);
  at("other").replaceChildren(...others.map((each) => new Option(`${each.fingerprint}, ${each.name}`, each.fingerprint)));
  at("compare").hidden = !others.length;
  at("alone").hidden = others.length > 0;
}

async function imports() {
  table(at("imports"), IMPORTS, await service.get("imports"));
}

async function searches() {
  table(at("searches"), SEARCHES, await service.get("searches"));
}

function leftOut({ name, problems }) {
  const said = counts(problems);
  if (said === "–") return said;
  const button = make("button", { type: "button", textContent: said });
  button.addEventListener("click", () => attempt(() => show(name)));
  return button;
}

async function show(name) {
  const rows = await service.get(`imports/${name}`);
  const items = rows.map((each) =>
    make("li", {}, picture(`admin/imports/${name}/${each.row}/picture`), make("strong", { textContent: each.code }), make("div", { textContent: `${each.product_id} ${each.image}` }), make("div", { textContent: each.reason })),
  );
  const title = make("h3", { textContent: `Left out by the import of ${name}, ${number(rows.length)} at most shown`, tabIndex: -1 });
  at("left").replaceChildren(title, make("ul", { className: "pictures" }, ...items));
  title.focus();
}

at("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(async () => {
    const found = await service.enter(at("key").value);
    at("key").value = "";
    await inside(found);
  });
});
at("leave").addEventListener("click", () => attempt(async () => {
  await service.leave();
  location.reload();
}));
/** Answer a form below it: `ask` returns nodes. */
function answers(form, place, ask) {
  at(form).addEventListener("submit", (event) => {
    event.preventDefault();
    at(place).textContent = "Searching …";
    attempt(async () => {
      try {
        at(place).replaceChildren(...(await ask()));
      } catch (error) {
        at(place).replaceChildren();
        throw error;
      }
    });
  });
}

answers("why", "answer", async () => told(await service.why(at("photo").files[0], at("product").value.trim(), at("asked").value)));
answers("compare", "sides", async () => sideBySide(await service.compare(at("compared").files[0], at("other").value, at("also").value)));
at("anew").addEventListener("click", () => attempt(searches));

service.session().then(inside, (error) => {
  outside();
  if (error.code !== "key_required") at("trouble").textContent = error.message;
});

// Copyright 2026 The Shoplens authors
// SPDX-License-Identifier: AGPL-3.0-only

// What the page is put together of: tables, lists of facts, pictures.

export function make(tag, options = {}, ...children) {
  const node = Object.assign(document.createElement(tag), options);
  node.append(...children);
  return node;
}

/** Fill a table: `columns` are a heading and what a row shows under it, text or a node. */
export function table(node, columns, rows) {
  const head = make("tr", {}, ...columns.map(([name]) => make("th", { scope: "col", textContent: name })));
  const body = rows.map((row) => make("tr", {}, ...columns.map(([, value]) => make("td", {}, shown(value(row))))));
  node.replaceChildren(make("thead", {}, head), make("tbody", {}, ...body));
}

export function facts(node, pairs) {
  node.replaceChildren(...pairs.flatMap(([name, value]) => [make("dt", { textContent: name }), make("dd", {}, shown(value))]));
}

/** Return a square with a picture, or with a dash where there is none. */
export function picture(address) {
  const place = make("div", { className: "picture" });
  const none = () => place.replaceChildren("no picture");
  if (!address) none();
  else {
    const image = make("img", { alt: "", loading: "lazy" });
    image.addEventListener("error", none);
    image.src = address;
    place.append(image);
  }
  return place;
}

export const pictureOf = (product) => product.image_url ?? (product.image_id ? `admin/images/${encodeURIComponent(product.image_id)}?width=160` : null);

export const number = (value) => (value === null || value === undefined ? "–" : value.toLocaleString("en"));

export const time = (value) => make("time", { dateTime: new Date(value).toISOString() }, new Date(value).toISOString().slice(0, 19).replace("T", " "));

export const counts = (found) => Object.entries(found).filter(([, value]) => value).map(([name, value]) => `${number(value)} ${name}`).join(", ") || "–";

function shown(value) {
  return value === null || value === undefined || value === "" ? "–" : value;
}

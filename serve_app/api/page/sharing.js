// Copyright 2026 The Shoplens authors
// SPDX-License-Identifier: Apache-2.0

// A link to what is shown, for others.

import * as notices from "./notices.js";
import { linkTo } from "./places.js";
import { text } from "./texts.js";
import { sharedView } from "./views.js";

/** Hand a link to the phone's own dialogue, or to the clipboard; where neither is there, show it. */
export async function share(view) {
  const shown = view.kind === "photo" ? sharedView(view.list.products.map((each) => each.product_id)) : view;
  const url = linkTo(shown);
  let said = text("Link copied");
  try {
    if (navigator.share && matchMedia("(pointer: coarse)").matches) {
      await navigator.share({ url });
      return;
    }
    await navigator.clipboard.writeText(url);
  } catch (error) {
    if (error.name === "AbortError") return;
    said = url;
  }
  said = `${said} · ${text("The link does not hold your photo.")}`;
  notices.clear();
  notices.show(said);
  notices.announce(said);
}

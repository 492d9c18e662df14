// Copyright 2026 The Shoplens authors
// SPDX-License-Identifier: Apache-2.0

// The ways that a photo comes: camera, file, clipboard, dropped onto the page.

/** Call `take` with each photo that comes. */
export function listen(take) {
  const give = (file) => file && take(file);
  for (const id of ["take", "choose", "another"]) {
    document.getElementById(id).addEventListener("change", (event) => {
      give(event.target.files[0]);
      event.target.value = "";
    });
  }
  addEventListener("paste", (event) => give(imageOf(event.clipboardData)));
  addEventListener("dragover", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("dropping"));
  addEventListener("drop", (event) => {
    document.body.classList.remove("dropping");
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    give(imageOf(event.dataTransfer));
  });
}

/** Return the first image of what was dropped or pasted; undefined where there is none. */
function imageOf(transfer) {
  return [...(transfer?.files ?? [])].find((file) => file.type.startsWith("image/"));
}

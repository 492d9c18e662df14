// Copyright 2026 The Shoplens authors
// SPDX-License-Identifier: Apache-2.0

// A shopper's photo on its way to the service: small, upright, and without what the camera wrote into it.

const LONG_SIDE = 1600; // what the service searches with; a canvas stays far below the 16 megapixels that phones allow
const SMALL_BYTES = 1_000_000;
const SENT_AS_IT_IS = ["image/jpeg", "image/png", "image/webp"];
const QUALITY = 0.9;

/** Return what is sent of a photo: a smaller one, or the file itself where it is small or can't be scaled here. */
export async function reduced(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
    const scale = LONG_SIDE / Math.max(bitmap.width, bitmap.height);
    if (scale >= 1 && file.size <= SMALL_BYTES && SENT_AS_IT_IS.includes(file.type)) return file;
    return (await drawn(bitmap, Math.min(1, scale))) ?? file;
  } catch {
    return file;
  } finally {
    bitmap?.close();
  }
}

function drawn(bitmap, scale) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#fff"; // as the service lays transparent photos on white
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/jpeg", QUALITY));
}

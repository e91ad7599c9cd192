// Arrays as datarun packs them: base64(zlib(raw bytes)), with numpy's dtype and the shape.

import { deflateSync, inflateSync } from "node:zlib";

const TYPES = { "<f8": Float64Array, "<f4": Float32Array, "<i8": BigInt64Array, "<i4": Int32Array };

// Whole numbers, as train_is and test_is are. A plain list does as well, and is larger.
export function encoded(numbers) {
  const raw = Buffer.from(BigInt64Array.from(numbers, BigInt).buffer);
  return {
    dtype: "<i8",
    shape: [numbers.length],
    encoding: "zlib+base64",
    data: deflateSync(raw).toString("base64"),
  };
}

// The numbers, row after row; `shape` tells how many columns they have. An array too large for one
// message comes with `parts` and without data: ask for each with datarun.part-request.v1.
export function decoded({ dtype, data }) {
  const raw = new Uint8Array(inflateSync(Buffer.from(data, "base64")));
  return Array.from(new TYPES[dtype](raw.buffer), Number);
}

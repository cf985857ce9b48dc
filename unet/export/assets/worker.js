"use strict";
// An image file -> class probabilities, as `unet predict` makes them. Arrays are planar: C or K planes of height x width.

let said = null;
let session = null;

const planes = (count, height, width, data = new Float32Array(count * height * width)) => ({ count, height, width, data });

// -- files ------------------------------------------------------------------------------------------------------------

const [PNG_DEPTH_BYTE, PNG_KIND_BYTE] = [24, 25]; // bits of a sample, and 0 for gray, in the chunk that a PNG begins with

const read = async (file, page) => {
  const head = new Uint8Array(await file.slice(0, 32).arrayBuffer());
  const tiff = ["73,73", "77,77"].includes(head.slice(0, 2).join());
  const png = head.slice(1, 4).join() === "80,78,71";
  if (png && head[PNG_DEPTH_BYTE] === 16) throw new Error("a browser keeps 8 bits of a PNG of 16; save it as TIFF");
  if (png && head[PNG_DEPTH_BYTE] < 8 && head[PNG_KIND_BYTE] === 0) {
    throw new Error("a browser stretches a PNG of fewer than 8 bits; save it as TIFF");
  }
  return tiff ? readTiff(file, page) : readPicture(file);
};

const readTiff = async (file, page) => {
  const opened = await GeoTIFF.fromBlob(file);
  const pages = await opened.getImageCount();
  const image = await opened.getImage(page);
  const meaning = image.fileDirectory.getValue?.("PhotometricInterpretation") ?? image.fileDirectory.PhotometricInterpretation;
  if (![0, 1, 2].includes(meaning ?? 1)) throw new Error("indexed or converted colours; save it as gray values or RGB");
  const bands = await image.readRasters();
  return { pages, bands: [...bands], height: image.getHeight(), width: image.getWidth() };
};

const readPicture = async (file) => {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new Error("cannot be read; is it a TIFF, PNG or JPEG file?");
  }
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  const bands = [0, 1, 2].map((band) => Uint8Array.from({ length: width * height }, (_, n) => data[4 * n + band]));
  const gray = bands[0].every((value, n) => value === bands[1][n] && value === bands[2][n]);
  return { pages: 1, bands: gray && said.input.channels === 1 ? [bands[0]] : bands, height, width };
};

const checked = (image) => {
  const { bands, height, width } = image;
  const wanted = said.input.channels;
  if (bands.length !== wanted) {
    throw new Error(`has ${bands.length} channels; the network takes ${wanted === 1 ? "gray images" : `${wanted} channels`}`);
  }
  if (bands.some((band) => !band.every(Number.isFinite))) throw new Error("gray values that are NaN or infinite; repair it");
  return { ...image, bands, height, width };
};

// -- gray values ------------------------------------------------------------------------------------------------------

// Linear interpolation between order statistics, as np.percentile does.
const percentiles = (sorted, q) => q.map((p) => {
  const place = ((sorted.length - 1) * p) / 100;
  const below = Math.floor(place);
  const [a, b] = [sorted[below], sorted[Math.min(below + 1, sorted.length - 1)]];
  return a + (b - a) * (place - below);
});
const ends = (band, q) => {
  const sorted = Float64Array.from(band).sort();
  const [low, high] = percentiles(sorted, q);
  return high > low ? [low, high] : percentiles(sorted, [0, 100]);
};

const meanAndDeviation = (band) => {
  const mean = band.reduce((sum, value) => sum + value, 0) / band.length;
  const deviation = Math.sqrt(band.reduce((sum, value) => sum + (value - mean) ** 2, 0) / band.length);
  return [mean, deviation > 1e-12 * Math.abs(mean) ? deviation : 0]; // of equal values but for the rounding: 0
};
// The gray value that becomes 0, and the difference that becomes 1.
const zeroAndSpan = (band) => {
  const { kind, offset, scale, low, high } = said.normalisation;
  if (kind === "fixed") return [offset, scale];
  if (kind === "zscore") return meanAndDeviation(band);
  const [dark, bright] = ends(band, kind === "percentile" ? [low, high] : [0, 100]);
  return [dark, bright - dark];
};

const normalised = ({ bands, height, width }) => {
  const image = planes(bands.length, height, width);
  bands.forEach((band, channel) => {
    const [zero, found] = zeroAndSpan(band);
    const span = found > 0 ? found : 1;
    const plane = image.data.subarray(channel * height * width);
    for (let n = 0; n < band.length; n += 1) plane[n] = (band[n] - zero) / span;
  });
  return image;
};

const unlikeTraining = ([band]) => {
  const { kind, offset, scale } = said.normalisation;
  const bits = 8 * band.BYTES_PER_ELEMENT;
  const ratio = (2 ** bits - 1) / (offset + scale);
  if (kind !== "fixed" || band instanceof Float32Array || band instanceof Float64Array || (ratio > 0.5 && ratio < 2)) return "";
  return `It holds ${bits}-bit gray values, and the network divides them by ${scale}; bring them into the range of the `
    + "training images if they are not.";
};

// To look at: nearly all gray values between black and white.
const picture = ({ bands }) => {
  const area = bands[0].length;
  const shown = new Uint8ClampedArray((bands.length === 3 ? 3 : 1) * area);
  for (let channel = 0; channel * area < shown.length; channel += 1) {
    const [dark, bright] = ends(bands[channel], [0.2, 99.8]);
    const gain = 255 / (bright > dark ? bright - dark : 1);
    for (let n = 0; n < area; n += 1) shown[channel * area + n] = (bands[channel][n] - dark) * gain;
  }
  return shown;
};

// -- the overlap-tile strategy of the paper ------------------------------------------------------------------------------

const LARGEST_OUTPUT_PX = 352; // memory of a browser; the result does not depend on the size of the tiles

const mirrored = (index, size) => {
  if (size === 1) return 0;
  const period = 2 * (size - 1);
  const folded = ((index % period) + period) % period;
  return Math.min(folded, period - folded);
};

// Along one axis: where output windows begin (on multiples of the network's stride), and their side.
const tiles = (length) => {
  const { smallest, step, output_smaller_by: smaller } = said.sides_px;
  const count = Math.ceil(length / LARGEST_OUTPUT_PX);
  const advance = Math.ceil(length / count / step) * step;
  const first = smallest - smaller;
  const output = first + Math.max(0, Math.ceil((Math.min(advance, length) - first) / step)) * step;
  return { output, origins: Array.from({ length: Math.ceil(length / advance) }, (_, n) => n * advance) };
};

const windowOf = (image, top, left, height, width) => {
  const columns = Int32Array.from({ length: width }, (_, x) => mirrored(left + x, image.width));
  const cut = planes(image.count, height, width);
  let n = 0;
  for (let c = 0; c < image.count; c += 1) {
    for (let y = 0; y < height; y += 1) {
      const row = (c * image.height + mirrored(top + y, image.height)) * image.width;
      for (let x = 0; x < width; x += 1) cut.data[n++] = image.data[row + columns[x]];
    }
  }
  return cut;
};

const stitched = async (image, tileDone) => {
  const { output_smaller_by: smaller } = said.sides_px;
  const [down, across] = [tiles(image.height), tiles(image.width)];
  const result = planes(said.output.probabilities_of.length, image.height, image.width);
  for (const top of down.origins) {
    for (const left of across.origins) {
      const cut = windowOf(image, top - smaller / 2, left - smaller / 2, down.output + smaller, across.output + smaller);
      const input = new ort.Tensor("float32", cut.data, [1, cut.count, cut.height, cut.width]);
      const { probabilities } = await session.run({ image: input });
      const [high, wide] = [Math.min(down.output, image.height - top), Math.min(across.output, image.width - left)];
      for (let k = 0; k < result.count; k += 1) {
        for (let y = 0; y < high; y += 1) {
          const from = (k * down.output + y) * across.output;
          result.data.set(probabilities.data.subarray(from, from + wide), (k * image.height + top + y) * image.width + left);
        }
      }
      probabilities.dispose();
      tileDone();
    }
  }
  return result;
};

// -- symmetries of the square -------------------------------------------------------------------------------------------

const turned = (image, height, width, index) => {
  const result = planes(image.count, height, width);
  for (let c = 0, n = 0; c < image.count; c += 1) {
    for (let y = 0; y < height; y += 1) {
      for (let x = 0; x < width; x += 1, n += 1) result.data[n] = image.data[c * height * width + index(y, x)];
    }
  }
  return result;
};
const flipped = (image) => turned(image, image.height, image.width, (y, x) => y * image.width + image.width - 1 - x);
// A quarter turn, counterclockwise: row y is column width - 1 - y.
const quarter = (image) => turned(image, image.width, image.height, (y, x) => x * image.width + image.width - 1 - y);
const times = (count, change, image) => Array.from({ length: count }).reduce((so) => change(so), image);

// A flip (or none), then quarter turns.
const members = (count) => ({
  1: [[0, 0]],
  4: [[0, 0], [1, 0], [1, 2], [0, 2]],
  8: [0, 1].flatMap((flip) => [0, 1, 2, 3].map((quarters) => [flip, quarters])),
})[count];

// The mean over symmetries: of probabilities, or of logits (their softmax is the normalised geometric mean).
const averaged = async (image, symmetries, tileDone) => {
  const sum = planes(said.output.probabilities_of.length, image.height, image.width);
  const logits = said.average === "logits" && symmetries > 1;
  for (const [flip, quarters] of members(symmetries)) {
    const found = await stitched(times(quarters, quarter, times(flip, flipped, image)), tileDone);
    const back = times(flip, flipped, times((4 - quarters) % 4, quarter, found));
    for (let n = 0; n < sum.data.length; n += 1) {
      sum.data[n] += (logits ? Math.log(Math.max(back.data[n], 1e-38)) : back.data[n]) / symmetries;
    }
  }
  if (logits) {
    const area = image.height * image.width;
    for (let n = 0; n < area; n += 1) {
      let total = 0;
      for (let k = 0; k < sum.count; k += 1) total += sum.data[k * area + n] = Math.exp(sum.data[k * area + n]);
      for (let k = 0; k < sum.count; k += 1) sum.data[k * area + n] /= total;
    }
  }
  return sum;
};

// -- a float TIFF: the maps that `unet predict` writes, one a page ---------------------------------------------------------

const floatTiff = (maps, height, width) => {
  const bytes = 4 * height * width;
  const TAGS = 10;
  const directory = 2 + 12 * TAGS + 4;
  const file = new DataView(new ArrayBuffer(8 + maps.length * (directory + bytes)));
  file.setUint32(0, 0x49492a00); // little-endian
  file.setUint32(4, 8, true);
  maps.forEach((map, page) => {
    let at = 8 + page * (directory + bytes);
    const pixels = at + directory;
    const last = page === maps.length - 1;
    file.setUint16(at, TAGS, true);
    at += 2;
    for (const [tag, value] of [
      [256, width], [257, height], [258, 32], [259, 1], [262, 1], [273, pixels], [277, 1], [278, height], [279, bytes],
      [339, 3], // sample format: floating point
    ]) {
      file.setUint16(at, tag, true);
      file.setUint16(at + 2, 4, true); // a LONG
      file.setUint32(at + 4, 1, true);
      file.setUint32(at + 8, value, true);
      at += 12;
    }
    file.setUint32(at, last ? 0 : pixels + bytes, true);
    map.forEach((value, n) => file.setFloat32(pixels + 4 * n, value, true));
  });
  return file.buffer;
};

// -- what the page asks for --------------------------------------------------------------------------------------------

// Made here: a page opened from a folder has an origin of its own, and so has each worker.
const script = (bytes) => URL.createObjectURL(new Blob([bytes], { type: "text/javascript" }));

const begin = async (asked) => {
  said = asked.said;
  importScripts(script(asked.tiff));
  const { default: runtime, ...rest } = await import(script(asked.runtime));
  self.ort = runtime ?? rest;
  ort.env.wasm.numThreads = 1; // threads need headers that a file has not
  ort.env.wasm.wasmBinary = asked.wasm;
  session = await ort.InferenceSession.create(asked.model, { executionProviders: ["wasm"] });
};

const predict = async ({ file, page, symmetries }) => {
  const started = performance.now();
  const image = checked(await read(file, page));
  const [down, across] = [tiles(image.height), tiles(image.width)];
  let done = 0;
  const total = symmetries * down.origins.length * across.origins.length;
  postMessage({ kind: "progress", done, total });
  const found = await averaged(normalised(image), symmetries, () => postMessage({ kind: "progress", done: ++done, total }));
  const { height, width } = image;
  const maps = Array.from({ length: found.count }, (_, k) => found.data.subarray(k * height * width, (k + 1) * height * width));
  const tiff = floatTiff(maps.length === 2 ? [maps[1]] : maps, height, width);
  postMessage({
    kind: "result", page, pages: image.pages, height, width, picture: picture(image), probabilities: found.data, tiff,
    note: unlikeTraining(image.bands), ms: performance.now() - started,
  });
};

let queue = Promise.resolve();
self.addEventListener("message", ({ data }) => {
  queue = queue.then(() => (data.kind === "begin" ? begin(data) : predict(data)))
    .catch((error) => postMessage({ kind: "problem", text: error.message.split("\n")[0] }));
});

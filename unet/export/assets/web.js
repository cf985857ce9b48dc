"use strict";
(() => {
  const said = JSON.parse(at("said").textContent);
  const names = said.output.probabilities_of;
  const HIGHLIGHT = [0, 190, 255];
  let worker = null; // one that is ready or at work; computing in it keeps the page alive
  let shown = null; // the result on the page
  let turn = 0; // of the picture that is drawn; earlier ones are passed over

  const percent = (share) => `${(100 * share).toFixed(1)} %`;

  // What the file carries, compressed, as text: a page opened from a folder can ask for no second file.
  const unpacked = async (id) => {
    const bytes = Uint8Array.from(atob(at(id).textContent), (character) => character.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  };
  const script = (text) => URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  const parts = Promise.all(["runtime", "tiff", "wasm", "model"].map(unpacked));

  const start = async () => {
    const own = worker = new Worker(script(at("worker").textContent));
    own.addEventListener("message", ({ data }) => own === worker && heard[data.kind](data));
    own.addEventListener("error", (event) => own === worker && heard.problem({ text: event.message || "it ended" }));
    const [runtime, tiff, wasm, model] = await parts;
    own.postMessage({ kind: "begin", said, runtime, tiff, wasm, model });
  };
  const stop = () => {
    worker?.terminate();
    worker = null;
    working(null);
  };

  let file = null;
  const heard = {
    progress: ({ done, total }) => working(`predicting, ${done} of ${total} tiles`, done / total),
    problem: ({ text }) => {
      stop();
      problem(`${file?.name ?? "the network"}: ${text}`);
    },
    result: (found) => {
      shown = { ...found, name: file.name };
      working(null);
      at("about").textContent = `${found.width} × ${found.height} px, ${(found.ms / 1000).toFixed(1)} s; `
        + "drop another to replace it";
      at("pages").hidden = found.pages === 1;
      at("page").max = found.pages;
      at("page-shown").textContent = `${found.page + 1} of ${found.pages}`;
      at("note").textContent = found.note;
      at("note").hidden = !found.note;
      at("result").hidden = false;
      fit(found.width, found.height);
      URL.revokeObjectURL(at("save").href);
      at("save").href = URL.createObjectURL(new Blob([found.tiff], { type: "image/tiff" }));
      at("save").download = `${file.name.replace(/\.[^.]*$/, "")}-probabilities.tif`;
      draw();
    },
  };

  const predict = async () => {
    if (!file) return;
    problem("");
    at("result").hidden = at("note").hidden = true;
    if (!at("work").hidden) stop(); // it is at work on something else
    at("title").textContent = file.name;
    at("about").textContent = "drop another to replace it";
    working("reading it");
    const [page, own] = [at("page").value - 1, file];
    try {
      if (!worker) await start();
      if (own !== file) return; // another was dropped meanwhile
      worker?.postMessage({ kind: "predict", file, page, symmetries: at("symmetries").checked ? said.symmetries : 1 });
    } catch (error) {
      heard.problem({ text: error.message });
    }
  };
  const open = (dropped) => {
    file = dropped;
    at("page").value = at("page").max = 1;
    predict();
  };

  // Three channels are colours; of any other number the first is shown.
  const painted = (threshold, map) => {
    const area = shown.width * shown.height;
    const made = [0, 1, 2].map(() => new ImageData(shown.width, shown.height));
    const [image, above, probability] = made.map(({ data }) => data.fill(255));
    for (let c = 0; c < 3; c += 1) {
      const gray = shown.picture.subarray(shown.picture.length === area ? 0 : c * area);
      for (let n = 0, at = c; n < area; n += 1, at += 4) {
        image[at] = gray[n];
        above[at] = map[n] > threshold ? 0.6 * gray[n] + 0.4 * HIGHLIGHT[c] : gray[n];
        probability[at] = 255 * map[n];
      }
    }
    return made;
  };
  const blob = (pixels) => {
    const canvas = new OffscreenCanvas(pixels.width, pixels.height);
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    return canvas.convertToBlob();
  };
  const draw = async () => {
    const own = (turn += 1);
    at("figure").classList.add("busy");
    const area = shown.width * shown.height;
    const [chosen, threshold] = [Number(at("class").value), Number(at("threshold").value)];
    const map = shown.probabilities.subarray(chosen * area, (chosen + 1) * area);
    const made = await Promise.all(painted(threshold, map).map(blob));
    if (own !== turn) return;
    const old = Object.values(layers).map((image) => image.src);
    Object.entries(layers).forEach(([name, image], index) => {
      image.src = URL.createObjectURL(made[index]);
      image.alt = `${name} of ${shown.name}`;
    });
    await Promise.allSettled(Object.values(layers).map((image) => image.decode())); // a later picture breaks it off
    old.forEach(URL.revokeObjectURL);
    at("figure").classList.remove("busy");
    at("threshold-shown").textContent = threshold.toFixed(2);
    at("covered").textContent = percent(map.reduce((count, p) => count + (p > threshold), 0) / area);
  };

  names.forEach((name, index) => at("class").append(new Option(name, index)));
  at("class").value = Math.min(1, names.length - 1);
  at("threshold").value = said.threshold;
  at("symmetries").parentElement.hidden = said.symmetries === 1;
  at("symmetries-said").textContent = `average over ${said.symmetries} symmetries, as unet predict does `
    + `(${said.symmetries} times as long)`;
  for (const id of ["page", "symmetries"]) at(id).addEventListener("change", predict);
  for (const id of ["class", "threshold"]) at(id).addEventListener("input", () => shown && draw());
  at("stop").addEventListener("click", stop);
  takeFiles(open, problem);
})();

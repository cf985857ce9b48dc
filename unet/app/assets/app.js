"use strict";
(() => {
  const FILES = [
    ["probabilities", "Probabilities (TIFF)"], ["instances", "Instances (TIFF)"], ["geojson", "Outlines (GeoJSON)"],
    ["rois", "Outlines (ImageJ)"], ["table", "Table (CSV)"],
  ];
  const COLUMNS = ["object", "area (px)", "centre x", "centre y", "perimeter (px)"];
  const POLL_MS = 250;
  let image = null; // what the server calls it, its name and size
  let turn = 0; // of the image or network shown; answers to earlier ones are passed over
  let upload = null;
  let largest = Infinity;

  const make = (name, text, parent) => {
    const node = document.createElement(name);
    node.textContent = text;
    parent.append(node);
    return node;
  };
  const number = (value) => value.toLocaleString("en", { maximumFractionDigits: 1 });
  const failed = (text) => {
    problem(text);
    working(null);
  };
  const ask = async (path, options = {}) => {
    let answer;
    try {
      answer = await fetch(path, options);
    } catch {
      throw new Error("the app does not answer; is it still running?");
    }
    if (answer.status === 204) return null;
    const told = await answer.json().catch(() => ({ error: "refused; open the address that unet app has printed" }));
    if (!answer.ok) throw new Error(told.error);
    return told;
  };
  const of = (rest) => `/api/images/${image.id}${rest}`;
  const chosen = () => `page=${at("page").value - 1}` + (at("levels").hidden ? "" : `&threshold=${at("threshold").value}`);

  // The file goes up as it is; XMLHttpRequest tells how much of it has gone.
  const send = (file) => new Promise((resolve, reject) => {
    upload = new XMLHttpRequest();
    upload.open("POST", `/api/images?name=${encodeURIComponent(file.name)}`);
    upload.responseType = "json";
    upload.upload.addEventListener("progress", (event) => {
      working(`taking up ${file.name}`, event.loaded / Math.max(1, event.total));
    });
    upload.addEventListener("load", () => {
      if (upload.status === 200) resolve(upload.response);
      else reject(new Error(upload.response?.error ?? "the file was refused"));
    });
    upload.addEventListener("error", () => reject(new Error("the app does not answer; is it still running?")));
    upload.addEventListener("abort", () => reject(new Error("stopped")));
    upload.send(file);
  });

  const open = async (file) => {
    const own = (turn += 1);
    upload?.abort();
    problem("");
    at("result").hidden = true;
    at("notes").replaceChildren();
    if (image) ask(of(""), { method: "DELETE" }).catch(() => null);
    image = null;
    try {
      await networks;
      if (file.size > largest) throw new Error(`${file.name}: larger than ${number(largest / 1e6)} MB; raise --largest-mb`);
      working(`taking up ${file.name}`, 0);
      const taken = await send(file);
      if (own !== turn) {
        ask(`/api/images/${taken.id}`, { method: "DELETE" }).catch(() => null);
        return;
      }
      image = taken;
      const [pages, channels, height, width] = image.size;
      at("title").textContent = image.name;
      at("about").textContent = `${width} × ${height} px` + (pages > 1 ? `, ${pages} pages` : "")
        + (channels > 1 ? `, ${channels} channels` : "") + "; drop another to replace it";
      at("pages").hidden = pages === 1;
      at("page").max = pages;
      at("page").value = 1;
      await predict();
    } catch (error) {
      if (own === turn) failed(error.message);
    }
  };

  const predict = async () => {
    if (!image) return;
    const own = (turn += 1);
    problem("");
    at("result").hidden = true;
    at("notes").replaceChildren();
    try {
      let told = await ask(of(`/predict?network=${encodeURIComponent(at("network").value)}`), { method: "POST" });
      while (own === turn && !["ready", "failed"].includes(told.state)) {
        const counted = told.state === "predicting" && told.total;
        working(counted ? `predicting, ${told.done} of ${told.total} rows of tiles` : `${told.state} …`,
          counted ? told.done / told.total : null);
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
        if (own === turn) told = await ask(of(""));
      }
      if (own !== turn) return;
      if (told.state === "failed") throw new Error(told.problem);
      working(null);
      for (const note of [...told.notes, told.without].filter(Boolean)) make("p", note, at("notes")).className = "warning";
      at("levels").hidden = told.threshold === null;
      at("list").hidden = at("facts").hidden = told.threshold === null;
      if (told.threshold !== null) at("threshold").value = told.threshold;
      sides("image", told.threshold === null ? "probability" : "instances");
      at("result").hidden = false;
      await show(true);
    } catch (error) {
      if (own === turn) failed(error.message);
    }
  };

  // What is left and right of the figure's line.
  const sides = (...names) => {
    [...document.querySelectorAll("#figure select")].forEach((select, index) => {
      [...select.options].forEach((option) => {
        option.disabled = at("levels").hidden && option.textContent === "instances";
        if (option.textContent === names[index]) select.value = option.value;
      });
      select.dispatchEvent(new Event("change"));
    });
  };

  // One page at one threshold; `whole`: the layers that do not depend on the threshold, too.
  let latest = 0;
  const show = async (whole) => {
    const own = (latest += 1);
    const objects = !at("levels").hidden;
    at("page-shown").textContent = `${at("page").value} of ${at("page").max}`;
    at("threshold-shown").textContent = Number(at("threshold").value).toFixed(2);
    const [, , height, width] = image.size;
    fit(width, height);
    at("figure").classList.add("busy");
    links();
    for (const [name, node] of Object.entries(layers)) {
      if (name === "instances" ? objects : whole) node.src = of(`/pictures/${name}?${chosen()}`);
      node.alt = `${name} of ${image.name}`;
    }
    try {
      if (objects) count(await ask(of(`/objects?${chosen()}`)), own);
      await Promise.all(Object.values(layers).filter((node) => node.src).map((node) => node.decode().catch(() => null)));
    } catch (error) {
      if (own === latest) failed(error.message);
    }
    if (own === latest) at("figure").classList.remove("busy");
  };

  const links = () => {
    at("files").replaceChildren();
    for (const [kind, text] of FILES) {
      if (at("levels").hidden && kind !== "probabilities") continue;
      const link = make("a", text, at("files"));
      link.href = of(`/files/${kind}?${chosen()}`);
      link.setAttribute("download", "");
    }
  };

  const count = (told, own) => {
    if (own !== latest) return;
    const [smallest, median, greatest] = told.areas;
    const facts = [["objects", number(told.count)], ["covered", `${number(100 * told.covered)} %`]];
    if (told.count) facts.push(["median area (px)", number(median)], ["areas (px)", `${number(smallest)}–${number(greatest)}`]);
    at("facts").replaceChildren();
    for (const [name, value] of facts) {
      const fact = make("div", "", at("facts"));
      fact.className = "fact";
      make("dt", name, fact);
      make("dd", value, fact);
    }
    const more = told.count > told.objects.length;
    at("list").querySelector("summary").textContent = more
      ? `The first ${told.objects.length} of ${number(told.count)} objects (the CSV file has all)` : "All objects";
    const [head, body] = ["thead tr", "tbody"].map((place) => at("list").querySelector(place));
    head.replaceChildren();
    body.replaceChildren();
    for (const name of COLUMNS) make("th", name, head).className = "number";
    for (const object of told.objects) {
      const row = make("tr", "", body);
      for (const value of object) make("td", number(value), row).className = "number";
    }
  };

  let timer = 0;
  const soon = (whole) => {
    clearTimeout(timer);
    timer = setTimeout(() => image && show(whole), 150);
  };

  takeFiles(open, failed);
  at("network").addEventListener("change", predict);
  at("page").addEventListener("input", () => soon(true));
  at("threshold").addEventListener("input", () => soon(false));
  at("stop").addEventListener("click", () => {
    turn += 1;
    upload?.abort();
    if (image) ask(of(""), { method: "DELETE" }).catch(() => null);
    image = null;
    at("title").textContent = "Drop an image here";
    working(null);
  });
  const networks = ask("/api/networks").then(({ networks: names, largest_bytes: bytes }) => {
    largest = bytes;
    for (const name of names) make("option", name, at("network")).value = name;
  }).catch((error) => failed(error.message));
})();

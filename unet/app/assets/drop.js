"use strict";
// What the pages that take an image share: messages, progress, the file that is dropped or chosen, the figure's size.
const at = (id) => document.getElementById(id);
const layers = Object.fromEntries(
  [...document.querySelectorAll(".layer")].map((layer) => [layer.dataset.name, layer.querySelector("img")]),
);
const problem = (text) => {
  at("problem").textContent = text;
  at("problem").hidden = !text;
};
const working = (text, share = null) => {
  at("work").hidden = text === null;
  at("doing").textContent = text ?? "";
  if (share === null) at("bar").removeAttribute("value");
  else at("bar").value = share;
};
const fit = (width, height) => {
  at("figure").style.maxWidth = `${Math.max(280, Math.round((0.8 * window.innerHeight * width) / height))}px`;
  at("figure").classList.toggle("small", Math.max(height, width) < 400);
};
const takeFiles = (open, refuse) => {
  at("file").addEventListener("change", () => {
    if (at("file").files.length) open(at("file").files[0]);
    at("file").value = "";
  });
  // Anywhere on the page, so that a file that misses the field does not replace the page.
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      at("drop").classList.toggle("over", kind === "dragover");
      const files = kind === "drop" ? event.dataTransfer.files : [];
      if (files.length === 1) open(files[0]);
      else if (files.length) refuse(`${files.length} files were dropped; drop one (a TIFF may hold many pages)`);
    });
  }
};

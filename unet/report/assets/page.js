"use strict";
(() => {
  const make = (name, attributes = {}, parent = null) => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (parent) parent.append(node);
    return node;
  };

  // Layers side by side become one picture with a slider between two of them.
  const compare = (figure) => {
    const layers = [...figure.querySelectorAll(".layer")].map((layer) => ({
      name: layer.dataset.name, image: layer.querySelector("img"),
    }));
    if (layers.length < 2) return;
    const stage = make("div", { class: "stage" });
    const last = layers.length - 1;
    const [left, right] = [["under", 0], ["over", last]].map(([kind, index]) => {
      const image = layers[index].image.cloneNode();
      image.className = kind;
      stage.append(image);
      return image;
    });
    const bar = make("div", { class: "bar" }, stage);
    const slider = make("input", { type: "range", min: 0, max: 100, step: 0.5, value: 50 }, stage);
    const move = () => {
      right.style.clipPath = `inset(0 0 0 ${slider.value}%)`;
      bar.style.left = `${slider.value}%`;
    };
    const sides = make("div", { class: "sides" });
    const choose = (label, image, at) => {
      const select = make("select", { "aria-label": label }, sides);
      layers.forEach((layer, index) => {
        const option = make("option", { value: index }, select);
        option.textContent = layer.name;
      });
      const show = () => {
        image.src = layers[select.value].image.src;
        image.alt = layers[select.value].image.alt;
        slider.setAttribute("aria-label", `${layers[picked[0].value].name} left, ${layers[picked[1].value].name} right`);
      };
      select.value = at;
      select.addEventListener("change", show);
      return select;
    };
    const picked = [choose("left of the line", left, 0), choose("right of the line", right, last)];
    for (const { image } of layers) { // a page whose pictures change, that of `unet app`
      image.addEventListener("load", () => picked.forEach((select) => select.dispatchEvent(new Event("change"))));
    }
    slider.setAttribute("aria-label", `${layers[0].name} left, ${layers[last].name} right`);
    slider.addEventListener("input", move);
    move();
    figure.querySelector(".layers").replaceWith(stage, sides);
  };

  // The values nearest to the pointer.
  const chart = (svg) => {
    const series = JSON.parse(svg.dataset.points).filter((line) => line.p.length);
    const plot = svg.parentElement;
    if (!series.length) return;
    const many = series.some((line) => line.p.length > 1);
    const rider = document.createElementNS("http://www.w3.org/2000/svg", "line");
    rider.setAttribute("class", "rider");
    rider.setAttribute("y1", 10);
    rider.setAttribute("y2", 206);
    const tip = make("div", { class: "tip", hidden: "" }, plot);
    const nearest = (points, x) => points.reduce((a, b) => (Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a));
    const show = (event) => {
      const box = svg.getBoundingClientRect();
      const scale = box.width / svg.viewBox.baseVal.width;
      const x = (event.clientX - box.left) / scale;
      const y = (event.clientY - box.top) / scale;
      let found = series.map((line) => ({ line, point: nearest(line.p, x) }));
      const far = (f) => Math.hypot(f.point[0] - x, many ? 0 : f.point[1] - y);
      const first = found.reduce((a, b) => (far(b) < far(a) ? b : a));
      found = many ? found.filter((f) => f.point[2] === first.point[2]) : [first];
      rider.setAttribute("x1", first.point[0]);
      rider.setAttribute("x2", first.point[0]);
      svg.append(rider);
      tip.replaceChildren();
      make("div", {}, tip).textContent = many ? `${svg.dataset.x} ${first.point[2]}` : first.point[2];
      for (const { line, point } of found) {
        const row = make("div", {}, tip);
        make("i", { class: line.c }, row);
        row.append(`${line.l}: ${point[3]}`);
      }
      tip.hidden = false;
      const place = first.point[0] * scale + 12;
      const room = plot.clientWidth - tip.offsetWidth;
      tip.style.left = `${Math.max(0, place > room ? first.point[0] * scale - tip.offsetWidth - 12 : place)}px`;
      tip.style.top = `${Math.max(0, y * scale - tip.offsetHeight - 10)}px`;
    };
    const hide = () => {
      tip.hidden = true;
      rider.remove();
    };
    svg.addEventListener("pointermove", show);
    svg.addEventListener("pointerdown", show);
    svg.addEventListener("pointerleave", hide);
  };

  // Headings sort their table.
  const sortable = (table) => {
    const body = table.tBodies[0];
    if (body.rows.length < 3) return;
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = make("button", { type: "button" });
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const key = (row) => row.cells[column]?.textContent ?? "";
        const order = (a, b) => {
          const [m, n] = [parseFloat(key(a).replaceAll(",", "")), parseFloat(key(b).replaceAll(",", ""))];
          if (!Number.isNaN(m) && !Number.isNaN(n)) return m - n;
          return key(a).localeCompare(key(b), "en", { numeric: true });
        };
        const rows = [...body.rows].sort(order);
        body.append(...(up ? rows : rows.reverse()));
      });
    });
  };

  document.querySelectorAll("figure.compare").forEach(compare);
  document.querySelectorAll("svg[data-points]").forEach(chart);
  document.querySelectorAll("table").forEach(sortable);
})();

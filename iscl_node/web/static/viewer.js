"use strict";
// Before and after: slices come as whole HU, 16 bits; windows, zoom and the difference are made here.
{
  const root = document.getElementById("viewer");
  const panes = document.getElementById("panes");
  const slider = document.getElementById("slice");
  const told = document.getElementById("slice-told");
  const hu = document.getElementById("hu");
  const windowTold = document.getElementById("window-told");
  const divider = document.getElementById("divider");
  const base = root.dataset.base;
  const KEPT_SLICES = 160;

  let form = null;
  let number = 0;
  let which = 1;
  let layout = innerWidth < 1000 ? "divider" : "side";
  let shownWindow = { center: 40, width: 400 };
  let chosen = "40,400";
  let removedWidth = 200;
  let view = { zoom: 1, x: 0, y: 0 };
  let split = 0.5;
  let drawing = 0;
  const slices = new Map();

  async function pixels(kind, index) {
    const key = `${kind}/${index}`;
    if (!slices.has(key)) {
      slices.set(key, fetch(`${base}/pixels/${key}`).then(async (answer) => {
        if (!answer.ok) return null;
        return new Int16Array(await answer.arrayBuffer());
      }).catch(() => null));
      while (slices.size > KEPT_SLICES) slices.delete(slices.keys().next().value);
    }
    return slices.get(key);
  }

  function lookup(center, width) {
    // PS3.3 C.11.2.1.2.1, the linear function of a window.
    const table = new Uint8ClampedArray(65536);
    for (let i = 0; i < 65536; i++) {
      const value = i > 32767 ? i - 65536 : i;
      table[i] = ((value - (center - 0.5)) / Math.max(width - 1, 1) + 0.5) * 255;
    }
    return table;
  }

  function picture(values, center, width) {
    const table = lookup(center, width);
    const image = new ImageData(form.columns, form.rows);
    const out = new Uint32Array(image.data.buffer);
    for (let i = 0; i < values.length; i++) {
      const gray = table[values[i] & 0xffff];
      out[i] = 0xff000000 | (gray << 16) | (gray << 8) | gray;
    }
    const canvas = new OffscreenCanvas(form.columns, form.rows);
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  }

  function removed(source, derived) {
    const values = new Int16Array(source.length);
    for (let i = 0; i < source.length; i++) values[i] = source[i] - derived[i];
    return values;
  }

  function frame(canvas) {
    // The image's place on a canvas, in its own pixels: fitted, then zoomed and moved.
    const ratio = devicePixelRatio || 1;
    const wide = Math.round(canvas.clientWidth * ratio);
    const high = Math.round(canvas.clientHeight * ratio);
    if (canvas.width !== wide || canvas.height !== high) { canvas.width = wide; canvas.height = high; }
    const [rowMm, columnMm] = form.spacing;
    const scale = Math.min(wide / (form.columns * columnMm), high / (form.rows * rowMm)) * view.zoom;
    const width = form.columns * columnMm * scale;
    const height = form.rows * rowMm * scale;
    return { x: (wide - width) / 2 + view.x * wide, y: (high - height) / 2 + view.y * high, width, height };
  }

  function paint(canvas, image, clip) {
    const place = frame(canvas);
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = place.width / form.columns < 4;
    context.imageSmoothingQuality = "high";
    if (!clip) { context.fillStyle = "#000"; context.fillRect(0, 0, canvas.width, canvas.height); }
    context.save();
    if (clip) {
      context.beginPath();
      context.rect(clip * canvas.width, 0, canvas.width, canvas.height);
      context.clip();
      context.fillStyle = "#000";
      context.fillRect(0, 0, canvas.width, canvas.height);
    }
    if (image) context.drawImage(image, place.x, place.y, place.width, place.height);
    if (form.refused?.slice === number) mark(context, place);
    context.restore();
  }

  function mark(context, place) {
    // Where the slice that the judge refused changed most.
    context.strokeStyle = "#ff5a4f";
    context.lineWidth = 2 * (devicePixelRatio || 1);
    for (const [top, left, bottom, right] of form.refused.boxes) {
      const [x, y] = [place.width / form.columns, place.height / form.rows];
      context.strokeRect(place.x + left * x, place.y + top * y, (right - left) * x, (bottom - top) * y);
    }
  }

  function canvasOf(name) { return panes.querySelector(`[data-pane=${name}] canvas`); }

  async function draw() {
    const mine = ++drawing;
    const hasDerived = form.derived[which - 1]?.slices.includes(number);
    const [source, derived] = await Promise.all([pixels(0, number), hasDerived ? pixels(which, number) : null]);
    if (mine !== drawing) return;
    const { center, width } = shownWindow;
    const before = source && picture(source, center, width);
    const after = derived && picture(derived, center, width);
    if (layout === "side") {
      paint(canvasOf("source"), before);
      paint(canvasOf("derived"), after);
      paint(canvasOf("removed"), source && derived && picture(removed(source, derived), 0, removedWidth));
    } else {
      paint(canvasOf("divided"), before);
      if (after) paint(canvasOf("divided"), after, Math.max(split, 1e-6));
    }
    root.dataset.drawn = `${number}`;
    const refused = form.refused?.slice === number ? "The judge refused this slice; boxes mark where it changed most." : "";
    const unmade = form.refused ? "Only the slice that the judge refused has a result." : "This slice is not denoised yet.";
    fail(!source ? "This slice cannot be read." : !hasDerived ? unmade : refused);
    tell();
    for (const next of [number + 1, number - 1]) {
      if (next >= 0 && next < form.slices) {
        pixels(0, next);
        if (form.derived[which - 1]?.slices.includes(next)) pixels(which, next);
      }
    }
  }

  function fail(text) {
    const box = document.getElementById("viewer-error");
    box.textContent = text;
    box.hidden = !text;
  }

  function tell() {
    const spoken = `${number + 1} of ${form.slices}`;
    told.value = spoken;
    slider.setAttribute("aria-valuetext", spoken);
    const { center, width } = shownWindow;
    windowTold.textContent = `Window ${Math.round(center)} / ${Math.round(width)} HU`;
    const half = Math.round(removedWidth / 2);
    document.getElementById("removed-window").textContent = `−${half} to ${half} HU`;
    for (const button of root.querySelectorAll("[data-window]")) {
      const preset = presetOf(button.dataset.window);
      const is = preset && preset.center === center && preset.width === width && button.dataset.window === chosen;
      button.setAttribute("aria-pressed", `${Boolean(is)}`);
    }
  }

  let noiseTimer = 0;
  function askNoise() {
    clearTimeout(noiseTimer);
    for (const each of root.querySelectorAll(".noise")) each.textContent = "";
    noiseTimer = setTimeout(async () => {
      const asked = number;
      const answer = await fetch(`${base}/noise/${asked}`);
      if (!answer.ok || asked !== number) return;
      const levels = await answer.json();
      for (const each of root.querySelectorAll(".noise")) {
        const level = levels[Number(each.dataset.noise)];
        each.textContent = level === null ? "" : `noise ${level.toFixed(1)} HU`;
      }
    }, 250);
  }

  function presetOf(text) {
    if (text === "stored") return form.window && { center: form.window[0], width: form.window[1] };
    const [center, width] = text.split(",").map(Number);
    return { center, width };
  }

  function goTo(next) {
    number = Math.max(0, Math.min(form.slices - 1, next));
    slider.value = `${number + 1}`;
    history.replaceState(null, "", `#${number + 1}`);
    draw();
    askNoise();
  }

  function zoomBy(factor) {
    view.zoom = Math.max(1, Math.min(16, view.zoom * factor));
    if (view.zoom === 1) { view.x = 0; view.y = 0; }
    draw();
  }

  function fit() { view = { zoom: 1, x: 0, y: 0 }; draw(); }

  function setLayout(next) {
    layout = next;
    for (const figure of panes.querySelectorAll("figure")) figure.hidden = (figure.dataset.pane === "divided") !== (layout === "divider");
    for (const button of root.querySelectorAll("[data-layout]")) button.setAttribute("aria-pressed", `${button.dataset.layout === layout}`);
    panes.classList.toggle("one", layout === "divider");
    placeDivider();
    draw();
  }

  function placeDivider() {
    divider.style.left = `${split * 100}%`;
    divider.setAttribute("aria-valuenow", `${Math.round(split * 100)}`);
  }

  function moveDivider(to) { split = Math.max(0, Math.min(1, to)); placeDivider(); draw(); }

  async function readUnder(event) {
    const canvas = event.target.closest("canvas");
    if (!canvas) return;
    const place = frame(canvas);
    const box = canvas.getBoundingClientRect();
    const ratio = canvas.width / box.width;
    const column = Math.floor((((event.clientX - box.left) * ratio - place.x) / place.width) * form.columns);
    const row = Math.floor((((event.clientY - box.top) * ratio - place.y) / place.height) * form.rows);
    if (column < 0 || row < 0 || column >= form.columns || row >= form.rows) { hu.value = ""; return; }
    const index = row * form.columns + column;
    const [source, derived] = await Promise.all([pixels(0, number), form.derived[which - 1]?.slices.includes(number) ? pixels(which, number) : null]);
    if (!source) return;
    const after = derived ? `, denoised ${derived[index]} HU, removed ${source[index] - derived[index]} HU` : "";
    hu.value = `Row ${row + 1}, column ${column + 1}: received ${source[index]} HU${after}`;
  }

  let drag = null;
  panes.addEventListener("pointerdown", (event) => {
    const canvas = event.target.closest("canvas");
    const isDivider = event.target === divider;
    if (!canvas && !isDivider) return;
    const figure = event.target.closest("figure");
    drag = { x: event.clientX, y: event.clientY, figure, isDivider, window: { ...shownWindow }, removedWidth, view: { ...view } };
    drag.moves = event.shiftKey || event.button !== 0;
    panes.setPointerCapture(event.pointerId);
    if (!isDivider) panes.focus({ preventScroll: true });
    event.preventDefault();
  });
  panes.addEventListener("pointermove", (event) => {
    if (!form) return;
    if (!drag) { readUnder(event); return; }
    const box = drag.figure.querySelector("canvas").getBoundingClientRect();
    const [right, down] = [event.clientX - drag.x, event.clientY - drag.y];
    if (drag.isDivider) { moveDivider((event.clientX - box.left) / box.width); return; }
    if (drag.moves) {
      view.x = drag.view.x + right / box.width;
      view.y = drag.view.y + down / box.height;
    } else if (drag.figure.dataset.pane === "removed") {
      removedWidth = Math.max(10, Math.round(drag.removedWidth * Math.exp(right / 200)));
    } else {
      shownWindow = { width: Math.max(1, Math.round(drag.window.width * Math.exp(right / 200))), center: Math.round(drag.window.center + down * Math.max(1, drag.window.width / 400)) };
    }
    draw();
  });
  for (const name of ["pointerup", "pointercancel"]) panes.addEventListener(name, () => { drag = null; });
  panes.addEventListener("contextmenu", (event) => event.preventDefault());
  panes.addEventListener("dblclick", fit);
  panes.addEventListener("pointerleave", () => { hu.value = "Point at the image for HU"; });
  panes.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (event.ctrlKey) zoomBy(event.deltaY < 0 ? 1.15 : 1 / 1.15);
    else goTo(number + Math.sign(event.deltaY));
  }, { passive: false });
  panes.addEventListener("keydown", (event) => {
    const steps = { ArrowUp: -1, ArrowDown: 1, PageUp: -10, PageDown: 10, Home: -form.slices, End: form.slices };
    if (event.key in steps) goTo(number + steps[event.key]);
    else if (event.key === "ArrowLeft") moveDivider(split - 0.02);
    else if (event.key === "ArrowRight") moveDivider(split + 0.02);
    else if (event.key === "+" || event.key === "=") zoomBy(1.25);
    else if (event.key === "-") zoomBy(0.8);
    else if (event.key === "0") fit();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  slider.addEventListener("input", () => goTo(Number(slider.value) - 1));
  root.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const { window: preset, layout: arranged, zoom } = button.dataset;
    if (preset) { chosen = preset; shownWindow = presetOf(preset) ?? shownWindow; draw(); }
    if (arranged) setLayout(arranged);
    if (zoom === "fit") fit();
    else if (zoom) zoomBy(zoom === "in" ? 1.25 : 0.8);
  });
  document.getElementById("which")?.addEventListener("change", (event) => { which = Number(event.target.value); draw(); });
  new ResizeObserver(() => { if (form) draw(); }).observe(panes);

  fetch(`${base}/view.json`).then((answer) => answer.ok ? answer.json() : Promise.reject(answer.status)).then((loaded) => {
    form = loaded;
    slider.max = `${form.slices}`;
    root.querySelector('[data-window="stored"]').disabled = !form.window;
    setLayout(layout);
    if (form.refused) which = form.derived.length;
    const asked = Number(location.hash.slice(1)) || 0;
    goTo(asked ? asked - 1 : form.refused?.slice ?? Math.ceil(form.slices / 2) - 1);
  }).catch(() => fail("The images cannot be shown now."));
}

// Shared by the attention components: packed triangles, their colours, options, announcements.

// A click in the head grid is told to the head view of the same name, which draws at once.
const HEAD_CHOSEN = "lens-lab-head-chosen";
const TICKS = [0, 0.05, 0.25, 0.5, 1];

function headName(layer, head) {
  return `L${layer}H${head}`;
}

// Where an edge is in a lower triangle that is packed row by row.
function edgeAt(dest, src) {
  return (dest * (dest + 1)) / 2 + src;
}

function unpackBytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

// A weight's colour goes with its square root, so that small weights are seen: level 0 to 255.
function levelOf(value, top) {
  return Math.round(255 * Math.sqrt(Math.min(Math.max(value / top, 0), 1)));
}

function weightOf(level) {
  return (level / 255) ** 2;
}

function kindLabel(kind) {
  return { pattern: "attention", "value-weighted": "value-weighted attention" }[kind] ?? "score";
}

function writeValue(kind, value) {
  if (value === null || value === undefined) return "–";
  if (kind === "pattern") return value < 0.00005 ? "0%" : percent(value);
  return value.toFixed(Math.abs(value) >= 100 ? 0 : 3);
}

function weightTicks(kind, top) {
  const text = (tick) => (kind === "pattern" ? `${100 * tick}%` : (tick * top).toPrecision(2));
  return TICKS.map((tick) => ({ shade: Math.sqrt(tick), text: tick === 0 ? "0" : text(tick) }));
}

// The ramp as 256 colours, each a canvas pixel.
function pixelTable(ramp) {
  const bytes = new Uint8ClampedArray(4 * 256);
  for (let level = 0; level < 256; level += 1) {
    bytes.set([...mix(ramp, level / 255), 255], 4 * level);
  }
  return new Uint32Array(bytes.buffer);
}

// One pixel an edge; `levelAt` gives 0 to 255, or -1 to leave the pixel blank. The first `first`
// tokens are left out; `swap` puts the sources into the rows.
function paintTriangle(canvas, size, levelAt, table, { first = 0, swap = false } = {}) {
  const side = size - first;
  canvas.width = side;
  canvas.height = side;
  const context = canvas.getContext("2d");
  const image = context.createImageData(side, side);
  const pixels = new Uint32Array(image.data.buffer);
  for (let dest = first; dest < size; dest += 1) {
    for (let src = first; src <= dest; src += 1) {
      const level = levelAt(dest, src);
      const [row, column] = swap ? [src - first, dest - first] : [dest - first, src - first];
      if (level >= 0) pixels[row * side + column] = table[level];
    }
  }
  context.putImageData(image, 0, 0);
}

// Options: the page's count when the page changes them; else what was set here is kept.
function keptOptions(store, sent) {
  const text = JSON.stringify(sent);
  if (store.sentOptions !== text) {
    store.sentOptions = text;
    store.options = { ...sent };
  }
  return store.options;
}

function toggle(label, pressed, act) {
  const button = element("button", "tool option", label);
  button.type = "button";
  button.setAttribute("aria-pressed", String(pressed));
  button.onclick = act;
  return button;
}

function themeColor(host, name) {
  return getComputedStyle(host).getPropertyValue(name).trim();
}

function categoryColors(host) {
  const listed = themeColor(host, "--st-chart-categorical-colors").split(",");
  const colors = listed.map((color) => color.trim()).filter((color) => /^#[0-9a-f]{6}$/i.test(color));
  return colors.length ? colors : ["#666b70"];
}

// Among nodes of which one is in the tab order: that one. Returns what moves it.
function rovingFocus(nodes, start) {
  let current = Math.min(Math.max(start, 0), nodes.length - 1);
  nodes.forEach((node, at) => {
    node.tabIndex = at === current ? 0 : -1;
  });
  return (to, reveal = true) => {
    nodes[current].tabIndex = -1;
    current = Math.min(Math.max(to, 0), nodes.length - 1);
    nodes[current].tabIndex = 0;
    if (reveal) nodes[current].focus();
  };
}

// The lens grid: states by tokens, one guess a cell. Drawn from `data` alone and drawn anew on each
// change, so calling it twice gives the same page. Texts are set with textContent only.

const SHOWN_IN_TIP = 10;
const stores = new WeakMap();

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

// Colours: the theme's sequential ramp, read where the page defines it ------------------------------

function channels(hex) {
  const digits = hex.trim().replace("#", "");
  return [0, 2, 4].map((at) => parseInt(digits.slice(at, at + 2), 16));
}

function themeRamp(host) {
  const listed = getComputedStyle(host).getPropertyValue("--st-chart-sequential-colors");
  const colors = listed.split(",").filter((color) => /^\s*#[0-9a-f]{6}\s*$/i.test(color));
  return colors.length > 1 ? colors.map(channels) : [[255, 255, 255], [0, 0, 0]];
}

function mix(ramp, shade) {
  const place = Math.min(Math.max(shade, 0), 1) * (ramp.length - 1);
  const low = Math.min(Math.floor(place), ramp.length - 2);
  return ramp[low].map((from, i) => Math.round(from + (ramp[low + 1][i] - from) * (place - low)));
}

function luminance(rgb) {
  const [r, g, b] = rgb.map((value) => {
    const c = value / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

// Black or white, whichever stands out more; the worse of the two is never below 4.5 to 1.
function inkOn(rgb) {
  const light = luminance(rgb) + 0.05;
  return 1.05 / light >= light / 0.05 ? "#ffffff" : "#000000";
}

// Numbers ------------------------------------------------------------------------------------------

function percent(p) {
  if (p < 0.001) return "<0.1%";
  return (100 * p).toFixed(p < 0.1 ? 1 : 0) + "%";
}

// One cell's data out of the flat arrays ------------------------------------------------------------

function cellAt(data, row, column) {
  const at = row * data.tokens.length + column;
  const guesses = [];
  for (let i = 0; i < data.k; i += 1) {
    guesses.push({
      id: data.top[at * data.k + i],
      text: data.vocab[data.top[at * data.k + i]],
      prob: data.prob[at * data.k + i],
    });
  }
  return {
    guesses,
    shade: data.shade[at],
    value: data.value[at],
    rank: data.rank[at],
    bits: data.bits[at],
    kl: data.kl[at],
    settled: guesses[0].id === data.final[column],
    answer: data.vocab[data.final[column]],
  };
}

function spoken(data, row, column, cell) {
  return (
    `${data.rows[row].title}, at ${data.tokens[column]}: ${cell.guesses[0].text}, ` +
    `${percent(cell.guesses[0].prob)}${cell.settled ? ", the final answer" : ""}; ` +
    `${data.quantity.label} ${cell.value} ${data.quantity.unit}`.trim()
  );
}

// The tip: best guesses and figures of the cell under the pointer or the keyboard's focus -----------

function fillTip(tip, data, row, column) {
  const cell = cellAt(data, row, column);
  tip.replaceChildren();
  const head = element("div", "tip-head");
  head.append(element("span", "", data.rows[row].title + ", at "));
  head.append(element("span", "mono", data.tokens[column]));
  tip.append(head);
  const list = element("div", "tip-list");
  cell.guesses.slice(0, SHOWN_IN_TIP).forEach((guess) => {
    const name = element("span", "mono tip-token", guess.text);
    if (guess.id === data.final[column]) name.classList.add("settled");
    const track = element("span", "tip-track");
    const bar = element("span", "tip-bar");
    bar.style.width = `${100 * guess.prob}%`;
    track.append(bar);
    list.append(name, track, element("span", "mono tip-prob", percent(guess.prob)));
  });
  tip.append(list);
  const figures = element("div", "tip-figures");
  figures.append(element("span", "", "final answer "));
  figures.append(element("span", "mono", cell.answer));
  figures.append(element("span", "", ` ranks ${cell.rank} here`));
  figures.append(element("br"));
  figures.append(element("span", "", `entropy ${cell.bits} bits, KL to the output ${cell.kl} nats`));
  tip.append(figures);
}

function placeTip(tip, target) {
  tip.hidden = false;
  const box = target.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = tip;
  const left = Math.min(Math.max(8, box.left + box.width / 2 - width / 2), innerWidth - width - 8);
  const above = box.top - height - 8;
  tip.style.left = `${left}px`;
  tip.style.top = `${above >= 8 ? above : Math.min(box.bottom + 8, innerHeight - height - 8)}px`;
}

// Drawing ------------------------------------------------------------------------------------------

function drawLegend(legend, data, ramp) {
  legend.replaceChildren();
  const unit = data.quantity.unit ? ` (${data.quantity.unit})` : "";
  legend.append(element("span", "legend-label", data.quantity.label + unit));
  const scale = element("span", "legend-scale");
  const stops = ramp.map((rgb, i) => `rgb(${rgb.join(" ")}) ${(100 * i) / (ramp.length - 1)}%`);
  const band = element("span", "legend-band");
  band.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
  scale.append(band);
  data.quantity.ticks.forEach((tick) => {
    const mark = element("span", "legend-tick mono", tick.text);
    mark.style.left = `${100 * tick.shade}%`;
    scale.append(mark);
  });
  legend.append(scale);
  legend.append(element("span", "legend-key", "underlined: already the final answer"));
}

function drawCell(data, row, column, ramp) {
  const cell = cellAt(data, row, column);
  const node = element("div", "cell mono");
  const background = mix(ramp, cell.shade);
  node.style.background = `rgb(${background.join(" ")})`;
  node.style.color = inkOn(background);
  node.append(element("span", "cell-text", cell.guesses[0].text));
  if (cell.settled) node.classList.add("settled");
  node.setAttribute("role", "gridcell");
  node.setAttribute("aria-label", spoken(data, row, column, cell));
  node.dataset.row = String(row);
  node.dataset.column = String(column);
  node.tabIndex = -1;
  return node;
}

function drawGrid(grid, data, ramp) {
  grid.replaceChildren();
  grid.style.setProperty("--columns", String(data.tokens.length));
  grid.setAttribute("aria-rowcount", String(data.rows.length + 1));
  grid.setAttribute("aria-colcount", String(data.tokens.length + 1));
  const cells = [];
  // The last state on top: the text enters below and the answer comes out above.
  for (let row = data.rows.length - 1; row >= 0; row -= 1) {
    const line = element("div", "line");
    line.setAttribute("role", "row");
    const label = element("div", "row-label mono", data.rows[row].label);
    label.setAttribute("role", "rowheader");
    label.setAttribute("aria-label", data.rows[row].title);
    label.title = data.rows[row].title;
    line.append(label);
    cells[row] = data.tokens.map((_, column) => drawCell(data, row, column, ramp));
    line.append(...cells[row]);
    grid.append(line);
  }
  const feet = element("div", "line");
  feet.setAttribute("role", "row");
  const corner = element("div", "row-label corner", "reads");
  corner.setAttribute("role", "columnheader");
  feet.append(corner);
  data.tokens.forEach((token, column) => {
    const isBos = column === 0 && data.bos;
    const foot = element("div", isBos ? "foot bos" : "foot mono", isBos ? "start" : token);
    foot.setAttribute("role", "columnheader");
    foot.title = isBos ? `the start token, ${token}` : `token ${column}: ${token}`;
    feet.append(foot);
  });
  grid.append(feet);
  return cells;
}

function markSelected(grid, cells, selected) {
  cells.forEach((line, row) =>
    line.forEach((node, column) => {
      const here = row === selected.row && column === selected.column;
      node.setAttribute("aria-selected", String(here));
    }),
  );
  grid.querySelectorAll(".foot").forEach((foot, column) => {
    foot.classList.toggle("chosen", column === selected.column);
  });
}

function moved(key, row, column, lastRow, lastColumn) {
  const steps = {
    ArrowUp: [1, 0],
    ArrowDown: [-1, 0],
    ArrowLeft: [0, -1],
    ArrowRight: [0, 1],
    Home: [0, -lastColumn],
    End: [0, lastColumn],
    PageUp: [lastRow, 0],
    PageDown: [-lastRow, 0],
  };
  if (!(key in steps)) return null;
  const clamp = (value, high) => Math.min(Math.max(value, 0), high);
  return [clamp(row + steps[key][0], lastRow), clamp(column + steps[key][1], lastColumn)];
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const root = parentElement.querySelector(".lens");
  const grid = root.querySelector(".grid");
  const scroller = root.querySelector(".scroller");
  const tip = root.querySelector(".tip");
  const ramp = themeRamp(root);
  const store = stores.get(parentElement) ?? {};
  stores.set(parentElement, store);

  root.dataset.ready = "false";
  tip.hidden = true;
  const hadFocus = grid.contains(parentElement.activeElement ?? null);
  grid.setAttribute("aria-label", data.label);
  drawLegend(root.querySelector(".legend"), data, ramp);
  const cells = drawGrid(grid, data, ramp);
  markSelected(grid, cells, data.selected);

  const lastRow = data.rows.length - 1;
  const lastColumn = data.tokens.length - 1;
  const samePrompt = store.prompt === data.prompt;
  const focus = (samePrompt && store.focus) || [data.selected.row, data.selected.column];
  const setFocus = ([row, column], reveal) => {
    if (store.focused) store.focused.tabIndex = -1;
    store.focus = [Math.min(row, lastRow), Math.min(column, lastColumn)];
    store.focused = cells[store.focus[0]][store.focus[1]];
    store.focused.tabIndex = 0;
    if (reveal) store.focused.focus();
  };
  setFocus(focus, hadFocus && samePrompt);
  if (!samePrompt) scroller.scrollLeft = scroller.scrollWidth;
  store.prompt = data.prompt;

  const cellOf = (event) => event.target.closest?.(".cell");
  const choose = (node) => {
    const chosen = { row: +node.dataset.row, column: +node.dataset.column };
    setFocus([chosen.row, chosen.column], false);
    markSelected(grid, cells, chosen);
    setTriggerValue("chosen", chosen);
  };
  const showTip = (node) => {
    fillTip(tip, data, +node.dataset.row, +node.dataset.column);
    placeTip(tip, node);
  };

  grid.onclick = (event) => {
    const node = cellOf(event);
    if (node) choose(node);
  };
  grid.onpointerover = (event) => {
    const node = cellOf(event);
    if (node && event.pointerType === "mouse") showTip(node);
  };
  grid.onpointerleave = () => {
    tip.hidden = true;
  };
  grid.onfocusin = (event) => {
    const node = cellOf(event);
    if (node && node.matches(":focus-visible")) showTip(node);
  };
  grid.onfocusout = () => {
    tip.hidden = true;
  };
  scroller.onscroll = () => {
    tip.hidden = true;
  };
  grid.onkeydown = (event) => {
    const node = cellOf(event);
    if (!node) return;
    if (event.key === "Enter" || event.key === " ") choose(node);
    else if (event.key === "Escape") tip.hidden = true;
    else {
      const to = moved(event.key, +node.dataset.row, +node.dataset.column, lastRow, lastColumn);
      if (!to) return;
      setFocus(to, true);
    }
    event.preventDefault();
  };

  root.dataset.prompt = data.prompt;
  // Two frames: the first lays out, the second is after the paint that a stopwatch should see.
  requestAnimationFrame(() =>
    requestAnimationFrame(() => {
      root.dataset.ready = "true";
    }),
  );
  return () => {
    stores.delete(parentElement);
  };
}

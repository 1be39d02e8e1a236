// The grid of heads. Drawn from `data` alone and drawn anew when it changes. Texts are set with
// textContent only: tokens are data.

const stores = new WeakMap();
const LEAST_CELL = 80; // pixels across in a sorted grid, caption and all

function scoreNamed(data, name) {
  return data.scores.find((score) => score.name === name);
}

// Which head stands where: the model's own order, or the highest score first.
function arrangement(data, options, width) {
  const order = Array.from({ length: data.layers * data.heads }, (_, head) => head);
  const score = scoreNamed(data, options.order);
  if (!score) return { order, columns: data.heads, sorted: false };
  const key = (head) => score.values[head] ?? -Infinity;
  order.sort((a, b) => key(b) - key(a) || a - b);
  const fit = Math.floor(width / (LEAST_CELL * data.prompts.length));
  const columns = options.block || fit < 1 ? data.heads : Math.min(data.heads, fit);
  return { order, columns, sorted: true };
}

function drawOptions(host, data, options, change) {
  const order = element("label", "option-field", "Order ");
  const select = element("select");
  const names = ["", ...data.scores.map((score) => score.name)];
  names.forEach((name) => {
    const choice = element("option", "", name || "layer by layer");
    choice.value = name;
    choice.selected = name === options.order;
    select.append(choice);
  });
  select.onchange = () => change({ order: select.value });
  order.append(select);
  const pressed = (name, label) =>
    toggle(label, options[name], () => change({ [name]: !options[name] }));
  host.replaceChildren(...(data.scores.length ? [order] : []));
  host.append(pressed("block", "Whole model"), pressed("lines", "As lines"));
}

function drawCell(data, head, place, columns, options, paint) {
  const cell = element("div", "cell");
  const pictures = element("div", "pictures");
  pictures.append(...thumbnails(data, head, paint));
  cell.append(pictures);
  const score = scoreNamed(data, options.order);
  const name = headName(Math.floor(head / data.heads), head % data.heads);
  // In the model's own order rows and columns say which head it is.
  if (options.order && !options.block) {
    const caption = element("div", "caption mono", name);
    if (score) caption.append(element("span", "caption-score", writeScore(score.values[head])));
    cell.append(caption);
  }
  const said = score ? `; ${score.name} ${writeScore(score.values[head])}` : "";
  cell.setAttribute("role", "gridcell");
  cell.setAttribute("aria-label", spokenHead(data, head) + said);
  cell.dataset.head = String(head);
  cell.dataset.place = String(place);
  return cell;
}

function drawHeaderLine(data) {
  const line = element("div", "line");
  line.setAttribute("role", "row");
  const corner = element("div", "corner");
  corner.setAttribute("role", "gridcell");
  line.append(corner);
  for (let head = 0; head < data.heads; head += 1) {
    const label = element("div", "column-label mono", `H${head}`);
    label.setAttribute("role", "columnheader");
    label.title = `head ${head}`;
    line.append(label);
  }
  return line;
}

function drawLine(data, row, cells, sorted) {
  const line = element("div", "line");
  line.setAttribute("role", "row");
  if (!sorted) {
    const label = element("div", "row-label mono", `L${row}`);
    label.setAttribute("role", "rowheader");
    label.title = `block ${row}`;
    line.append(label);
  }
  line.append(...cells);
  return line;
}

function drawGrid(grid, data, options, layout, paint) {
  const { order, columns, sorted } = layout;
  grid.replaceChildren();
  grid.className = "grid";
  grid.classList.toggle("sorted", sorted);
  grid.classList.toggle("block", options.block);
  grid.classList.toggle("two", data.prompts.length > 1);
  grid.style.setProperty("--columns", String(columns));
  grid.style.setProperty("--lines", String(Math.ceil(order.length / columns)));
  grid.setAttribute("aria-label", data.label);
  if (!sorted) grid.append(drawHeaderLine(data));
  const cells = order.map((head, place) => drawCell(data, head, place, columns, options, paint));
  for (let start = 0; start < cells.length; start += columns) {
    grid.append(drawLine(data, start / columns, cells.slice(start, start + columns), sorted));
  }
  return cells;
}

function drawHeadLegend(legend, data, options, ramp) {
  const label = kindLabel(data.kind);
  if (options.lines) legend.replaceChildren(element("span", "", `Lines: ${label}, destination left`));
  else legend.replaceChildren(...colorScale(label, ramp, weightTicks(data.kind, data.top)));
  if (data.prompts.length < 2) return;
  ["left", "right"].forEach((side, at) => {
    const words = data.prompts[at].tokens.slice(0, 12).join(" ");
    const more = data.prompts[at].tokens.length > 12 ? " …" : "";
    legend.append(element("span", "legend-prompt", `${side}: ${words}${more}`));
  });
}

function unpacked(prompt) {
  return { ...prompt, bytes: unpackBytes(prompt.shades) };
}

// What the head view needs to draw this head at once, before the page has answered.
function announce(data, head) {
  const prompt = data.prompts[0];
  if (prompt.pixels !== prompt.tokens.length) return;
  const start = head * edgeAt(prompt.pixels, 0);
  const detail = {
    link: data.link,
    prompt: prompt.prompt,
    kind: data.kind,
    top: data.top,
    layer: Math.floor(head / data.heads),
    head: head % data.heads,
    levels: prompt.bytes.slice(start, start + edgeAt(prompt.pixels, 0)),
  };
  window.dispatchEvent(new CustomEvent(HEAD_CHOSEN, { detail }));
}

function markSelected(cells, selected) {
  cells.forEach((cell) => {
    cell.setAttribute("aria-selected", String(+cell.dataset.head === selected));
  });
}

function redraw(root, store, setTriggerValue) {
  const { data } = store;
  const options = store.options;
  const grid = root.querySelector(".grid");
  const ramp = themeRamp(root, "sequential");
  const paint = {
    lines: options.lines,
    table: pixelTable(ramp),
    color: themeColor(root, "--st-primary-color"),
  };
  const hadFocus = store.cells?.includes(root.getRootNode().activeElement) ?? false;
  const layout = arrangement(data, options, grid.parentElement.clientWidth);
  const cells = drawGrid(grid, data, options, layout, paint);
  store.cells = cells;
  markSelected(cells, store.selected);
  const placeOf = (head) => Math.max(0, layout.order.indexOf(head));
  const focus = rovingFocus(cells, placeOf(store.focus ?? store.selected));
  if (hadFocus) focus(placeOf(store.focus ?? store.selected));

  root.querySelector(".title").textContent = data.title;
  root.querySelector(".definition").textContent = scoreNamed(data, options.order)?.definition ?? "";
  drawHeadLegend(root.querySelector(".legend"), data, options, ramp);
  const draw = () => gridPicture(root, data, options, layout, cells);
  drawTools(root.querySelector(".tools"), { name: "heads", withLink: true, draw });

  connectGrid(root, store, { cells, layout, paint, focus }, setTriggerValue);
}

function connectGrid(root, store, { cells, layout, paint, focus }, setTriggerValue) {
  const { data } = store;
  const grid = root.querySelector(".grid");
  const scroller = root.querySelector(".scroller");
  const tip = root.querySelector(".tip");
  const cellOf = (event) => event.target.closest?.(".cell");
  const hide = () => {
    tip.hidden = true;
  };
  const show = (cell) => {
    fillHeadTip(tip, data, +cell.dataset.head, paint);
    placeTip(tip, cell);
  };
  const choose = (cell) => {
    const head = +cell.dataset.head;
    store.focus = head;
    store.selected = head;
    focus(+cell.dataset.place, false);
    markSelected(cells, head);
    announce(data, head);
    const [layer, inLayer] = [Math.floor(head / data.heads), head % data.heads];
    setTriggerValue("chosen", { ...data.selected, layer, head: inLayer });
  };
  const step = (key, place) => {
    const { columns } = layout;
    const last = [Math.ceil(cells.length / columns) - 1, columns - 1];
    const to = moved(key, Math.floor(place / columns), place % columns, ...last, -1);
    if (!to) return false;
    const next = Math.min(to[0] * columns + to[1], cells.length - 1);
    store.focus = +cells[next].dataset.head;
    focus(next);
    return true;
  };
  grid.onclick = (event) => {
    const cell = cellOf(event);
    if (cell) choose(cell);
  };
  grid.onpointerover = (event) => {
    const cell = cellOf(event);
    if (cell && event.pointerType === "mouse") show(cell);
  };
  grid.onpointerleave = hide;
  grid.onfocusin = (event) => {
    const cell = cellOf(event);
    if (cell?.matches(":focus-visible")) show(cell);
  };
  grid.onfocusout = hide;
  scroller.onscroll = hide;
  grid.onkeydown = (event) => {
    const cell = cellOf(event);
    if (!cell) return;
    if (event.key === "Enter" || event.key === " ") choose(cell);
    else if (event.key === "Escape") hide();
    else if (!step(event.key, +cell.dataset.place)) return;
    event.preventDefault();
  };
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const root = parentElement.querySelector(".attention");
  const store = stores.get(parentElement) ?? {};
  stores.set(parentElement, store);
  const options = keptOptions(store, data.options);
  store.selected = data.selected.layer * data.heads + data.selected.head;

  // A rerun that only says what was chosen here repaints nothing.
  const drawn = JSON.stringify([{ ...data, selected: 0 }, options, themeRamp(root, "sequential")]);
  if (drawn === store.drawn) {
    store.data.selected = data.selected;
    markSelected(store.cells, store.selected);
    return store.cleanUp;
  }
  store.drawn = drawn;
  store.data = { ...data, prompts: data.prompts.map(unpacked) };
  root.dataset.ready = "false";
  const change = (part) => {
    Object.assign(options, part);
    drawOptions(root.querySelector(".options"), data, options, change);
    redraw(root, store, setTriggerValue);
    setTriggerValue("options", { ...options });
  };
  drawOptions(root.querySelector(".options"), data, options, change);
  redraw(root, store, setTriggerValue);
  root.dataset.prompt = data.prompts[0].prompt;
  readyAfterPaint(root);
  store.cleanUp = () => stores.delete(parentElement);
  return store.cleanUp;
}
